"""Update rules on flat slices, schedules and clipping. Knows no layers and no ranks."""
