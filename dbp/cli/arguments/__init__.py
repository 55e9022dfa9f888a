"""Arguments and options that several commands take, and the jobs and files that they name.
Never imports another part of dbp.cli."""
