"""Parts of a data set, and the split into training and validation samples."""

from __future__ import annotations

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.data.digits import Digits
from dbp.data.subset import Rest, Subset, hold_out
from dbp.errors import InvalidData


def numbered(samples: int) -> Dataset:
    """Sample i has the input [i] and the class i."""
    return arrays(np.arange(samples, dtype=np.float64)[:, None], np.arange(samples))


def contents(dataset: Dataset) -> list[int]:
    inputs = np.empty((len(dataset), 1))
    targets = np.empty(len(dataset), np.int64)
    dataset.take_inputs(np.arange(len(dataset)), inputs)
    dataset.take_targets(np.arange(len(dataset)), targets)
    assert (inputs[:, 0] == targets).all()
    return targets.tolist()


def test_a_subset_has_these_samples_in_this_order() -> None:
    subset = Subset(numbered(10), np.array([7, 0, 3]))

    assert len(subset) == 3
    assert contents(subset) == [7, 0, 3]
    assert subset.locate_target(0) == "targets: sample 7"


def test_a_subset_of_a_subset() -> None:
    inner = Subset(numbered(10), np.array([7, 0, 3]))

    assert contents(Subset(inner, np.array([2, 0]))) == [3, 7]


@pytest.mark.parametrize("samples", [2, 3, 10, 1797])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.7])
def test_the_parts_are_disjoint_and_make_up_the_whole(samples: int, fraction: float) -> None:
    training, validation = hold_out(numbered(samples), fraction, seed=3)

    assert abs(len(validation) - fraction * samples) <= 0.5
    assert sorted(contents(training) + contents(validation)) == list(range(samples))


def test_the_split_depends_only_on_the_seed() -> None:
    first = contents(hold_out(numbered(100), 0.2, seed=1)[1])

    assert contents(hold_out(numbered(100), 0.2, seed=1)[1]) == first
    assert contents(hold_out(numbered(100), 0.2, seed=2)[1]) != first


def test_the_split_is_spread_over_the_whole_source() -> None:
    validation = contents(hold_out(numbered(10_000), 0.1, seed=0)[1])

    tenths = np.bincount(np.array(validation) // 1000, minlength=10)
    assert (tenths > 50).all()
    assert (tenths < 150).all()


@pytest.mark.parametrize(("samples", "fraction"), [(1, 0.5), (3, 0.1), (3, 0.9)])
def test_an_empty_part_is_refused(samples: int, fraction: float) -> None:
    with pytest.raises(InvalidData, match=rf"data\.validation: .*{samples} training sample"):
        hold_out(numbered(samples), fraction, seed=0)


def test_parts_of_digits_keep_its_class_names_and_range() -> None:
    whole = Digits().open()

    training, validation = hold_out(whole, 0.1, seed=0)

    assert (len(training), len(validation)) == (1293, 144)
    assert training.info.class_names == whole.info.class_names
    assert validation.info.input_maximum == 16.0


@pytest.mark.parametrize("left_out", [[], [0], [9], [0, 1, 2], [3, 4, 9], list(range(10))])
def test_the_rest_is_everything_else_in_order(left_out: list[int]) -> None:
    data = numbered(10)
    rest = Rest(data, np.array(left_out, np.int64))
    expected = [index for index in range(10) if index not in left_out]

    assert contents(rest) == expected
    for place, index in enumerate(expected):
        assert rest.locate_target(place) == data.locate_target(index)
