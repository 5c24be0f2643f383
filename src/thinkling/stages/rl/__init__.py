"""A model and verifiable problems → a model that solves more of them, trained with on-policy GRPO inside a band of pass
rates."""
