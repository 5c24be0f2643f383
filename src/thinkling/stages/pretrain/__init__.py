"""Shards → base model, by FG-WSD: a list of phases of learning rate, mixture, row length and RoPE base."""
