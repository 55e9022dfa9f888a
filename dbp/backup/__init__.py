"""Backups of a state folder: staged by hard links, written with digests, checked, restored."""
