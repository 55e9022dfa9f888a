"""Layers, losses, metrics and the model, forward and backward. Independent of ranks."""
