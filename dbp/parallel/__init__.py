"""Communicators, and the exchange that sums gradients over ranks. Never imports dbp.nn."""
