"""Bytes that last: atomic files, the state folder, SQLite and its schema. Knows no jobs."""
