"""Output on a terminal or as JSON: tables, listings, status line and progress bar. Never
imports another part of dbp.cli."""
