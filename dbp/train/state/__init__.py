"""Checkpoints: what a run needs to continue, how it is written, read and compared."""
