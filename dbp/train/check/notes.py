"""Collect the notes on a valid spec that are shown before training."""

from __future__ import annotations

from dbp.job.output_range import range_note
from dbp.job.shapes import check_shapes
from dbp.train.check.data_notes import data_notes
from dbp.train.check.inspection import Inspected
from dbp.train.check.mini_batches import mini_batch_notes
from dbp.train.check.run_length import metric_notes, schedule_notes


def notes(inspected: Inspected) -> tuple[str, ...]:
    """Return the notes, one sentence each, with the path of the field."""
    resolved, facts = inspected.resolved, inspected.facts
    shape = facts.train.input_shape
    output_shape = check_shapes(resolved, shape).output_shapes[-1]
    found = [range_note(resolved, output_shape)]
    found += mini_batch_notes(resolved, shape, facts.training_samples)
    found += metric_notes(resolved, facts.training_samples)
    found += schedule_notes(resolved, facts.training_samples)
    data = data_notes(resolved, facts.train, facts.validation, facts.test)
    return data + tuple(f"{note.path}: {note.message}" for note in found if note is not None)
