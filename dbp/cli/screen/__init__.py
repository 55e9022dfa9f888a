"""Output on a terminal or as JSON: tables, listings, status line and progress bar."""
