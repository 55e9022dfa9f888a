"""`dbp doctor`: probe MPI and the packages of this machine in processes of their own. Installs
nothing."""
