"""`dbp train`: the command, its resume options, and the folder of its run."""
