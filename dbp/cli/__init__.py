"""The `dbp` command: one file a command group; imports inside the commands."""
