"""The flat vector and its views."""

from __future__ import annotations

import numpy as np
import pytest

from dbp.nn.layer import Workspace
from dbp.nn.parameters import Parameters
from dbp.nn.role import is_bias

SHAPES = {"0.weight": (2, 3), "0.bias": (2,), "2.weight": (1, 2)}


def test_views_share_the_vectors_memory_in_order() -> None:
    vector = np.arange(10.0)
    parameters = Parameters(SHAPES, vector)

    parameters["0.bias"][1] = -1.0

    assert parameters["0.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert vector[7] == -1.0
    assert parameters.slices["2.weight"] == slice(8, 10)
    assert len(parameters) == 10


def test_like_gives_the_same_names_over_another_vector() -> None:
    parameters = Parameters.zeros(SHAPES, np.float32)
    other = parameters.like(np.ones(10))

    assert other["0.weight"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert not parameters.vector.any()
    assert other.slices == parameters.slices


@pytest.mark.parametrize("vector", [np.zeros(9), np.zeros((2, 5)), np.zeros(20)[::2]])
def test_a_vector_that_does_not_fit_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="contiguous vector of 10 elements"):
        Parameters(SHAPES, vector)


def test_a_bias_is_recognized_by_its_name() -> None:
    assert [is_bias(n) for n in ("0.bias", "bias", "0.weight", "0.bias_like")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_workspace_gives_the_same_memory_to_smaller_batches() -> None:
    workspace = Workspace(np.float32)
    large = workspace.array("y", (4, 3))
    small = workspace.array("y", (2, 3))

    assert np.shares_memory(large, small)
    assert small.flags.c_contiguous
    assert workspace.array("y", (4, 3)).ctypes.data == large.ctypes.data
    assert not np.shares_memory(large, workspace.array("dx", (4, 3)))
    assert workspace.array("y", (5, 3)).shape == (5, 3)
    assert workspace.array("mask", (4, 3), bool).dtype == bool
