"""Update rules on flat vectors, learning-rate schedules, gradient clipping. Never imports
dbp.nn."""
