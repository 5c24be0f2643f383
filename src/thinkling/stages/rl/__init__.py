"""A model and checkable problems → a model that gets more of them right: on-policy GRPO inside a pass-rate band."""
