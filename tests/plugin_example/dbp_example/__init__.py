"""Components for dbp that are installed as a package of their own."""
