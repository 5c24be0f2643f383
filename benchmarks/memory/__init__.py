"""Memory of training steps: predicted against measured, and the memory of the logits."""
