"""Measure a training step on this machine: dbp, the bare matrix products, other frameworks."""
