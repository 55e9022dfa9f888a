"""Samples: readers of files, data sets by index, their order, scaling and mini-batches."""
