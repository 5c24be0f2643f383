"""A model and verifiable problems → a model that solves more of them: on-policy GRPO within a pass-rate band."""
