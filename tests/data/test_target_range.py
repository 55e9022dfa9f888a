from __future__ import annotations

import math

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.data.target_range import check_range
from dbp.errors import InvalidData


def dataset(targets: list[list[float]]) -> Dataset:
    return arrays(np.zeros((len(targets), 1)), np.array(targets))


@pytest.mark.parametrize(
    ("targets", "high", "words"),
    [
        ([[0.0, 1.0], [0.5, 1.5]], 1.0, "sample 1: target 1.5, .* values 0 to 1"),
        ([[0.0, 1.0], [0.5, -0.1]], 1.0, "sample 1: target -0.1, .* values 0 to 1"),
        ([[3.0, -1.0]], math.inf, "sample 0: target -1, .* values >= 0"),
    ],
)
def test_the_first_target_outside_is_named(
    targets: list[list[float]], high: float, words: str
) -> None:
    with pytest.raises(InvalidData, match=words):
        check_range(dataset(targets), 0.0, high)


def test_targets_inside_pass() -> None:
    check_range(dataset([[0.0, 1.0]]), 0.0, 1.0)
    check_range(dataset([[-5.0, 1e30]]), -math.inf, math.inf)
