"""Optimizers, learning-rate schedules and gradient clipping, on flat vectors."""
