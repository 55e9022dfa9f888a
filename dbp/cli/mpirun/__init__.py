"""The parent of mpirun in `dbp train -n N`: terminal, output, signals, exit code. Never loads
numpy or MPI."""
