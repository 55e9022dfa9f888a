"""Data sets: readers of file formats, order of the samples, scaling. Knows no models."""
