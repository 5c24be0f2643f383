"""Shards → base model, by FG-WSD: a list of phases with learning rate, mixture, row length and RoPE base."""
