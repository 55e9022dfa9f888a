"""Communicators, and the exchange that sums gradients over ranks. Independent of layers."""
