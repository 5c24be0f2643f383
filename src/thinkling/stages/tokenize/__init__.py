"""Documents → tokenizer and shards, one directory per source."""
