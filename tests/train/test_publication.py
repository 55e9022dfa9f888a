from __future__ import annotations

import json
import math

from dbp.job.spec import PublishSpec
from dbp.train.publication import Publication, manifest_at, metadata_at, metadata_of
from tests.train.setups import document, make_setup, samples


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def due_steps(spec: PublishSpec, steps: int, seconds_a_step: float) -> list[int]:
    clock = Clock()
    publication = Publication(spec, clock)
    due = []
    for step in range(1, steps + 1):
        clock.now += seconds_a_step
        if publication.due(step):
            publication.published()
            due.append(step)
    return due


def test_by_steps() -> None:
    assert due_steps(PublishSpec(every_steps=4), 13, 1.0) == [4, 8, 12]


def test_by_time_the_first_step_then_one_each_interval() -> None:
    assert due_steps(PublishSpec(every_seconds=2.0), 10, 0.5) == [1, 5, 9]


def test_by_both() -> None:
    assert due_steps(PublishSpec(every_steps=3, every_seconds=2.0), 8, 1.0) == [1, 3, 5, 6, 8]


def test_the_metadata_says_what_a_reader_needs() -> None:
    setup = make_setup(document(dtype="float32"), samples(9))

    metadata = metadata_of(setup)
    manifest = manifest_at(setup, metadata_at(metadata, 12, {"loss": 0.5, "r2": math.nan}))

    assert metadata["dbp.job"] == "test"
    assert metadata["format"] == "pt"
    assert metadata["dbp.spec_digest"] == setup.resolved.digest
    assert json.loads(metadata["dbp.model"])["loss"]["kind"] == "softmax_cross_entropy"
    assert json.loads(metadata["dbp.input_shape"]) == [5]
    assert json.loads(metadata["dbp.scaling"]) == {"kind": "none"}
    assert manifest.metadata["dbp.step"] == "12"
    assert json.loads(manifest.metadata["dbp.metrics"]) == {"loss": 0.5}
    assert "dbp.metrics" not in metadata_at(metadata, 12, {})
    assert [(t.name, t.dtype, t.shape) for t in manifest.tensors] == [
        ("0.weight", "F32", (7, 5)),
        ("0.bias", "F32", (7,)),
        ("2.weight", "F32", (3, 7)),
        ("2.bias", "F32", (3,)),
    ]
