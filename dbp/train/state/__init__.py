"""Checkpoints: write, read and compare what a run needs to continue. Never ends a run."""
