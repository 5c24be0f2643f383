"""Documents → tokenizer and shards, a directory a source."""
