"""Faults of a step or a rank: numbers that are not finite, samples, ranks that differ. Never
imports the training loop."""
