"""Training, evaluation, checkpoints and trained models, in one process or many ranks."""
