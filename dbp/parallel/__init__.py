"""Communicators, and the exchange that sums gradients over ranks. Knows nothing of layers."""
