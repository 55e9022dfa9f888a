"""Data sets: readers of file formats, order of the samples, scaling. Never imports dbp.nn."""
