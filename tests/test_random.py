"""Keyed generators: the same for the same purpose on every machine, unrelated otherwise."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from dbp.random import derive_key, keyed_generator
from tests.deadline import DEADLINE

PURPOSES: list[tuple[str | int, ...]] = [
    (),
    ("a",),
    ("b",),
    ("a", "b"),
    ("ab",),
    ("a", 0),
    ("a", "0"),
    ("a", 1),
    (0, "a"),
    ("", "a"),
]


def test_every_purpose_has_a_key_of_its_own() -> None:
    keys = [derive_key(0, *purpose) for purpose in PURPOSES]
    keys += [derive_key(seed, "a") for seed in (1, -1, 2**63)]

    for one, other in combinations(keys, 2):
        assert one != other


def test_draws_for_different_purposes_are_uncorrelated() -> None:
    one = keyed_generator(0, "a").standard_normal(10_000)
    other = keyed_generator(0, "b").standard_normal(10_000)

    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


def test_draws_do_not_depend_on_earlier_draws() -> None:
    first = keyed_generator(3, "x").random(5)
    keyed_generator(3, "y").random(1000)

    np.testing.assert_array_equal(keyed_generator(3, "x").random(5), first)


def test_draws_are_the_same_in_another_process() -> None:
    code = "from dbp.random import keyed_generator as k; print(k(3, 'x', 4).random(3).tolist())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert outputs == {str(keyed_generator(3, "x", 4).random(3).tolist())}


def test_keys_stay_the_same_from_release_to_release() -> None:
    # A resumed run draws with the same keys: another value here breaks stored runs.
    assert derive_key(7, "initialize", 2).hex() == "4e5df74b053bc0c9ef6131b4016f41e3"
    assert keyed_generator(7, "initialize", 2).integers(0, 1000, 4).tolist() == [
        214,
        703,
        809,
        455,
    ]


@pytest.mark.parametrize("size", [1, 8, 16, 64])
def test_a_key_has_the_size_asked_for(size: int) -> None:
    assert len(derive_key(0, "a", size=size)) == size
