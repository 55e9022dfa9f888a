"""`dbp compare`: the differences of runs and jobs."""
