"""Trained models and their parameter files: load, compare, describe and export."""
