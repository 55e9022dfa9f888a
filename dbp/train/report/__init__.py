"""Reports of a run: sinks, metrics and the run folder. Decides nothing about training."""
