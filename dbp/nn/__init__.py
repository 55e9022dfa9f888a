"""Layers, losses, metrics and the model, forward and backward. Never imports dbp.parallel."""
