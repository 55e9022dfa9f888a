"""`dbp train`: the command, its resume options, and the folder of its run. Starts no processes:
dbp.cli.mpirun does."""
