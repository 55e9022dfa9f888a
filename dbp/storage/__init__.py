"""Bytes that last: atomic files, the state folder, SQLite and its schema. Never imports
another package of dbp."""
