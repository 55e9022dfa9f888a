"""Reports of a run: sinks, metrics and the run folder. Never imports the training loop."""
