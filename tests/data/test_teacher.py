"""The teacher's samples: the same bits in any pieces, any number of them, and learnable."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any

import numpy as np
import pytest

from dbp.data.batch_source import BatchSource
from dbp.data.classes import check_targets
from dbp.data.dataset import Dataset
from dbp.data.teacher import MAX_WEIGHTS, Teacher


def read(dataset: Dataset, chosen: np.ndarray, dtype: Any = np.float32) -> tuple[Any, Any]:
    info = dataset.info
    inputs = np.empty((len(chosen), *info.input_shape), dtype)
    targets = np.empty((len(chosen), *info.target_shape))
    dataset.take_inputs(chosen, inputs)
    dataset.take_targets(chosen, targets)
    return inputs, targets


@pytest.mark.parametrize("kind", ["class", "values"])
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("features", [1, 37, 1000])
def test_samples_do_not_depend_on_the_blocks_requested(
    kind: Any, noise: float, features: int
) -> None:
    dataset = Teacher(
        samples=700, inputs=features, outputs=3, hidden=129, target_kind=kind, noise=noise
    ).open()
    inputs, targets = read(dataset, np.arange(700))
    rng = np.random.default_rng(0)

    for size in (1, 2, 3, 17, 64, 699):
        chosen = rng.integers(0, 700, size)
        found = read(dataset, chosen)
        np.testing.assert_array_equal(found[0], inputs[chosen])
        np.testing.assert_array_equal(found[1], targets[chosen])


def test_samples_are_these_on_every_machine() -> None:
    digest = hashlib.sha256()
    for kind in ("class", "values"):
        options: dict[str, Any] = {"target_kind": kind, "noise": 0.125, "seed": 5}
        for array in read(
            Teacher(samples=10**9, **options).open(), np.arange(10**9 - 50, 10**9)
        ):
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())

    assert digest.hexdigest() == DIGEST


DIGEST = "6ff28a05ad133341f2d2a74d371b98254f3c2aed8bbd8caca4148327544647d0"


def test_float32_and_float64_hold_the_same_inputs() -> None:
    dataset = Teacher(samples=500, inputs=20).open()

    single, double = (read(dataset, np.arange(500), dtype)[0] for dtype in ("f4", "f8"))

    np.testing.assert_array_equal(single, double)
    assert np.abs(double).max() < 4


def test_a_thousand_million_samples_need_the_memory_of_a_batch() -> None:
    dataset = Teacher(samples=10**9, inputs=64, hidden=64).open()
    source = BatchSource(dataset, dtype=np.float32)
    inputs, targets = source.allocate(128)
    chosen = np.random.default_rng(0).integers(0, 10**9, 128)

    tracemalloc.start()
    try:
        check_targets(dataset, 10)
        source.fill(chosen, inputs, targets)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 12 * inputs.nbytes


def test_many_samples_at_once_need_the_memory_of_a_piece() -> None:
    dataset = Teacher(samples=10**6, inputs=4, hidden=64).open()
    chosen, targets = np.arange(200_000), np.empty(200_000, np.int64)

    tracemalloc.start()
    try:
        dataset.take_targets(chosen, targets)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * 2**20


def test_a_test_set_is_another_part_of_the_same_teacher() -> None:
    whole = read(Teacher(samples=200).open(), np.arange(150, 200))
    rest = read(Teacher(samples=50, first=150).open(), np.arange(50))

    np.testing.assert_array_equal(whole[0], rest[0])
    np.testing.assert_array_equal(whole[1], rest[1])


def test_seeds_are_other_teachers() -> None:
    first, second = (
        read(Teacher(samples=50, seed=seed).open(), np.arange(50)) for seed in (0, 1)
    )

    assert (first[0] != second[0]).mean() > 0.999
    assert (first[1] != second[1]).any()


@pytest.mark.parametrize("features", [8, 300])
def test_classes_occur_and_can_be_learned(features: int) -> None:
    dataset = Teacher(samples=8000, inputs=features, outputs=5).open()
    inputs, targets = read(dataset, np.arange(8000), np.float64)
    share = np.bincount(targets.astype(int), minlength=5) / 8000

    features_and_one = np.column_stack([inputs, np.ones(8000)])
    fit = np.linalg.lstsq(features_and_one[:6000], np.eye(5)[targets[:6000].astype(int)])[0]
    right = (features_and_one[6000:] @ fit).argmax(axis=1) == targets[6000:]

    assert (share > 0.02).all()
    assert right.mean() > share.max() + 0.2


def test_values_are_of_about_unit_size_and_noise_is_added_to_them() -> None:
    options: dict[str, Any] = {"samples": 5000, "outputs": 6, "target_kind": "values"}
    plain = read(Teacher(**options).open(), np.arange(5000))[1]
    noisy = read(Teacher(noise=0.5, **options).open(), np.arange(5000))[1]

    assert (plain.std(axis=0) > 0.4).all()
    assert (plain.std(axis=0) < 2.5).all()
    np.testing.assert_allclose((noisy - plain).std(axis=0), 0.5, rtol=0.05)
    assert abs((noisy - plain).mean()) < 0.01


def test_inspect_returns_the_info_of_the_open_data_set() -> None:
    reader = Teacher(samples=10**12, inputs=3, outputs=7)

    assert reader.inspect() == reader.open().info
    assert (reader.inspect().classes, reader.inspect().samples) == (7, 10**12)
    assert Teacher(samples=1, target_kind="values").inspect().target_shape == (10,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 1}, "outputs: must be at least 2 classes, got 1"),
        ({"inputs": 2**20, "hidden": 2**16}, f"hidden: .* at most {MAX_WEIGHTS:,} weights"),
    ],
)
def test_options_without_a_teacher_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Teacher(samples=1, **options)
