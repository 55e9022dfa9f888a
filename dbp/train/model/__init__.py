"""Trained models and their parameter files: load, compare and export. Never imports the
training loop."""
