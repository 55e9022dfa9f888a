"""`dbp predict` and `dbp evaluate`: read the inputs, compute and write the answers. Needs no
MPI."""
