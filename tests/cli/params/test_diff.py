"""What has changed between two versions, from tensors made by hand."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest

from dbp.cli.params.diff import Change, changes_of
from dbp.client.parameter_set import ParameterSet
from dbp.job.state import Version

NAMES = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")


def parameters(tensors: Mapping[str, np.ndarray]) -> ParameterSet:
    return ParameterSet(Version(1, 5, 1, "ab", 100, 2.0), {}, tensors, memoryview(b""))


def drawn(seed: int, names: tuple[str, ...] = NAMES) -> ParameterSet:
    rng = np.random.default_rng(seed)
    shapes = {name: (5, 7) if name == "0.weight" else (7,) for name in names}
    return parameters(
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    )


def changes(a: ParameterSet, b: ParameterSet) -> dict[str, Change]:
    return {change.name: change for change in changes_of(a, b)}


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("all weights", ("0.weight", "1.weight")),
        ("all biases", ("0.bias", "1.bias")),
        ("all statistics", ("1.running_mean", "1.running_var")),
        ("all", NAMES),
    ],
)
def test_a_group_changes_as_its_tensors_in_a_row(group: str, names: tuple[str, ...]) -> None:
    a, b = drawn(1), drawn(2)

    found = changes(a, b)

    assert list(found)[-4:] == ["all weights", "all biases", "all statistics", "all"]
    x, y = (
        np.concatenate([each[name].astype(np.float64).ravel() for name in names])
        for each in (a, b)
    )
    change, norm = np.linalg.norm(y - x), np.linalg.norm(x)
    assert found[group].norm == pytest.approx(norm, rel=1e-14)
    assert found[group].change == pytest.approx(change, rel=1e-14)
    assert found[group].relative == pytest.approx(change / norm, rel=1e-14)
    assert found[group].cosine == pytest.approx(x @ y / norm / np.linalg.norm(y), rel=1e-13)
    assert found[group].largest == np.abs(y - x).max()


def test_groups_without_tensors_are_not_shown() -> None:
    names = ("0.weight",)

    assert list(changes(drawn(1, names), drawn(2, names))) == ["0.weight", "all weights", "all"]


@pytest.mark.parametrize("seed", range(20))
def test_the_cosine_of_equal_vectors_is_one_and_of_opposite_ones_minus_one(seed: int) -> None:
    a = drawn(seed)
    opposite = parameters({name: -tensor for name, tensor in a.tensors.items()})
    twice = parameters({name: 2 * tensor for name, tensor in a.tensors.items()})

    assert {change.cosine for change in changes_of(a, a)} == {1.0}
    assert {change.cosine for change in changes_of(a, opposite)} == {-1.0}
    for change in changes_of(a, twice):
        assert change.cosine is not None
        assert 1 - 1e-15 < change.cosine <= 1


def test_the_angle_of_vectors_that_nearly_vanish_is_found() -> None:
    tiny = np.array([3e-162, 4e-162])

    (found, *_) = changes_of(
        parameters({"0.weight": tiny}), parameters({"0.weight": tiny[::-1]})
    )

    assert found.cosine is not None
    assert -1 <= found.cosine <= 1


def test_vectors_of_zeros_have_no_angle() -> None:
    zeros = parameters({"0.weight": np.zeros(3, np.float32)})
    (found, *_) = changes_of(zeros, parameters({"0.weight": np.ones(3, np.float32)}))

    assert (found.relative, found.cosine, found.largest) == (None, None, 1.0)


def test_nan_is_shown_in_every_column() -> None:
    bad = parameters({"0.weight": np.array([np.nan, 1], np.float32)})

    (found, *_) = changes_of(bad, bad)

    assert np.isnan([found.norm, found.change, found.cosine or 0, found.largest]).all()


def test_groups_take_no_memory_of_their_own() -> None:
    count, size = 16, 50_000
    found = parameters({f"{i}.weight": np.ones(size, np.float32) for i in range(count)})

    tracemalloc.start()
    changes_of(found, found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 3 * size * 8
