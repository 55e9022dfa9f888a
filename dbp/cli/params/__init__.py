"""`dbp params`: show, verify, compare and watch parameters, and manage their versions. Never
computes with a model."""
