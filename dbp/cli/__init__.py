"""The `dbp` command: a module or folder per group of commands, loaded when its command runs. No
other package imports it."""
