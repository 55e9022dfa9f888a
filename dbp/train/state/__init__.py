"""Checkpoints: write, read and compare what a run needs to continue. Never imports the
training loop."""
