"""`dbp metrics`: the metrics history of jobs as a table, or as rows for other programs."""
