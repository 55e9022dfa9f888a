"""Update rules on flat vectors, learning-rate schedules, gradient clipping. Knows no layers."""
