"""Checks of a job before a long run: its spec, data, gradients and lanes. Writes nothing."""
