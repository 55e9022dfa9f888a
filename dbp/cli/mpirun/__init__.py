"""The parent of mpirun in `dbp train -n N`: terminal, output, signals and exit code."""
