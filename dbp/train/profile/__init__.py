"""Where the time of a run is spent: spans of every rank, as Chrome traces and as a summary."""
