"""Plots: curves of runs and confusion matrices, in the terminal and as pictures."""
