"""Artifacts, documents, conversations, token shards, packing and mixtures."""
