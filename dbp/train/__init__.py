"""The training loop: from a resolved spec to parameters, one process or many."""
