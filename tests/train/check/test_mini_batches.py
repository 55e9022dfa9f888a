"""Mini-batches that do not suit the data, the model or the type of the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from dbp.errors import InvalidSpec
from dbp.job.spec.resolve import resolve
from dbp.job.spec.shapes import check_shapes
from dbp.nn.dense import Dense
from dbp.nn.layer import Shape
from dbp.train.check.inspection import inspect
from dbp.train.check.mini_batches import check_mini_batches, mini_batch_notes
from dbp.train.run_spec import RunSpec, run_spec
from tests.train.setups import document

DENSE = {"kind": "dense", "units": 3}
NORMALIZED = [DENSE, "batch_norm", DENSE]


def resolved(layers: list[Any], **train: Any) -> RunSpec:
    spec = document(**train)
    spec["model"]["layers"] = layers
    return run_spec(resolve(spec))


def notes(layers: list[Any], samples: int, shape: tuple[int, ...] = (4,), **train: Any) -> Any:
    spec = resolved(layers, lanes=1, **train)
    shapes = check_shapes(spec, shape)
    check_mini_batches(spec, shapes, samples)
    return [f"{note.path}: {note.message}" for note in mini_batch_notes(spec, shapes, samples)]


def refusal(layers: list[Any], samples: int, **train: Any) -> str:
    spec = resolved(layers, lanes=1, **train)
    shapes = check_shapes(spec, (4,))
    with pytest.raises(InvalidSpec) as refused:
        check_mini_batches(spec, shapes, samples)
    return str(refused.value)


def test_a_last_mini_batch_of_one_row_is_noted_with_the_remedy() -> None:
    (note,) = notes(NORMALIZED, 33, batch_size=16)

    assert note == (
        "model.layers[1]: batch_norm: the last mini-batch of an epoch has 1 row, too few for a "
        "variance: it is normalized with the running statistics, which ignore it; "
        'train.last_batch = "drop" leaves it out'
    )


def test_a_variance_of_few_values_is_noted() -> None:
    (note,) = notes(NORMALIZED, 35, batch_size=16)

    assert "has 3 rows: a variance of 3 values is mostly noise" in note


def test_a_residual_block_is_looked_into() -> None:
    block = {"kind": "residual", "layers": [DENSE, "batch_norm"]}

    (note,) = notes([DENSE, block, DENSE], 33, batch_size=16)

    assert note.startswith("model.layers[1]: residual: the last mini-batch")


def test_parts_of_accumulation_count_each_for_itself() -> None:
    (note,) = notes(NORMALIZED, 32, batch_size=16, accumulate=4)

    assert "a mini-batch has 16 rows in 4 parts: a variance of 4 values" in note
    assert "choose a smaller train.accumulate" in note


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (32, {"batch_size": 16}),
        (33, {"batch_size": 16, "last_batch": "drop"}),
        (40, {"batch_size": 16}),
        (33, {"batch_size": 16, "steps": 2}),
    ],
)
def test_mini_batches_that_are_large_enough_are_not_noted(
    samples: int, options: dict[str, Any]
) -> None:
    assert notes(NORMALIZED, samples, **options) == []


def test_frozen_statistics_need_no_variance() -> None:
    optimizer = {"kind": "sgd", "frozen": ["1.*"]}

    assert notes(NORMALIZED, 33, batch_size=1, optimizer=optimizer) == []


def test_positions_of_images_count() -> None:
    layers = [{"kind": "conv2d", "filters": 2, "kernel": 1}, "batch_norm", "flatten", DENSE]

    assert notes(layers, 33, (1, 4, 4), batch_size=16) == []


def test_layers_that_look_at_single_samples_are_not_noted() -> None:
    assert notes([DENSE, "layer_norm", DENSE], 33, batch_size=16) == []


def test_mini_batches_that_never_have_a_variance_are_refused() -> None:
    assert "batch_size must be at least 2, got 1" in refusal(NORMALIZED, 33, batch_size=1)
    text = refusal(NORMALIZED, 33, batch_size=4, accumulate=4)
    assert text.startswith("model.layers[1]: batch_norm: a mini-batch in 4 parts")
    assert "batch_size must be at least 8, got 4" in text


@pytest.mark.parametrize(
    ("samples", "options", "remedy"),
    [
        (5, {"batch_size": 32, "accumulate": 5}, "accumulate must be at most 2, got 5"),
        (5, {"batch_size": 4, "accumulate": 4}, "accumulate must be at most 2, got 4"),
        (1, {"batch_size": 32}, "there is only 1 training sample"),
    ],
)
def test_the_remedy_for_few_samples_is_one_that_helps(
    samples: int, options: dict[str, Any], remedy: str
) -> None:
    assert remedy in refusal(NORMALIZED, samples, **options)


def test_one_part_with_a_variance_is_enough() -> None:
    (note,) = notes(NORMALIZED, 5, batch_size=5, accumulate=3)

    assert "too few for a variance" in note


def test_fewer_samples_than_a_mini_batch_holds_are_noted_as_such() -> None:
    (note,) = notes(NORMALIZED, 5, batch_size=32)

    assert note == (
        "model.layers[1]: batch_norm: a mini-batch has 5 rows: a variance of 5 values is "
        "mostly noise; only 5 training samples; layer_norm needs no mini-batch"
    )


def test_dropping_the_only_mini_batch_is_refused() -> None:
    text = refusal([DENSE], 15, batch_size=16, last_batch="drop")

    assert text == (
        'train.last_batch: "drop" leaves no mini-batch: batch_size is 16, but the set has 15 '
        'training samples; choose a smaller train.batch_size, or last_batch = "keep"'
    )


def test_counts_that_float32_cannot_hold_are_refused() -> None:
    text = refusal([DENSE], 2**25, batch_size=2**24 + 1, dtype="float32")

    assert "float32 counts at most 16,777,216 samples of a mini-batch exactly" in text
    assert "got 16,777,217" in text


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (2**25, {"batch_size": 2**24, "dtype": "float32"}),
        (2**25, {"batch_size": 2**25, "dtype": "float64"}),
        (1000, {"batch_size": 2**25, "dtype": "float32"}),
    ],
)
def test_counts_that_are_exact_are_accepted(samples: int, options: dict[str, Any]) -> None:
    spec = resolved([DENSE], **options)
    check_mini_batches(spec, check_shapes(spec, (4,)), samples)


def test_the_shapes_of_a_model_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0
    output_shape = Dense.output_shape

    def counted(layer: Dense, shape: Shape) -> Shape:
        nonlocal computed
        computed += 1
        return output_shape(layer, shape)

    monkeypatch.setattr(Dense, "output_shape", counted)
    spec = document()
    spec["model"]["layers"] = [DENSE, "batch_norm", DENSE | {"units": 10}]

    (note,) = inspect(resolve(spec)).notes()

    assert "batch_norm: the last mini-batch" in note
    assert computed == 2, "once for each dense layer"
