"""Layers, losses, metrics and the model, forward and backward. Knows nothing of ranks."""
