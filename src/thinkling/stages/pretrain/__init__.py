"""Shards → base model, trained with FG-WSD: a list of phases with learning rate, mixture, row length and RoPE base."""
