"""Patterns of tensor names: what they match, and how much of them is too much."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.errors import InvalidInput, TensorNotFound
from dbp.job.snapshot import Manifest, manifest_of
from dbp.versions.tensor_patterns import (
    MAX_CHARACTERS,
    MAX_PATTERNS,
    check_patterns,
    matching,
)


def holding(*names: str) -> Manifest:
    return manifest_of(dict.fromkeys(names, (1,)), "F32", {})


def test_a_name_means_the_tensor_that_has_it_whatever_its_characters() -> None:
    stored = holding("a[0]", "a0", "b*", "bc", "?")

    assert matching(stored, ["a[0]"]) == {"a[0]"}
    assert matching(stored, ["b*"]) == {"b*"}
    assert matching(stored, ["?"]) == {"?"}
    assert matching(stored, ["a[[]0]"]) == {"a[0]"}
    assert matching(stored, ["b[*c]"]) == {"b*", "bc"}


@given(
    st.lists(st.text("ab.*?[]!-", min_size=1, max_size=6), min_size=1, max_size=8, unique=True),
    st.text("ab.*?[]!-", max_size=6),
)
def test_patterns_match_as_those_of_a_shell(names: list[str], pattern: str) -> None:
    expected = {pattern} & set(names) or {n for n in names if fnmatchcase(n, pattern)}

    try:
        found = matching(holding(*names), [pattern])
    except TensorNotFound:
        found = set()

    assert found == expected


def test_of_very_many_tensors_near_ones_are_reported_soon() -> None:
    stored = holding(*(f"layer.{number:05d}.weight" for number in range(30_000)))
    began = time.monotonic()

    with pytest.raises(TensorNotFound) as told:
        matching(stored, ["layer.12345.wieght"])

    assert told.value.metadata["nearest"].split(", ")[0] == "layer.12345.weight"
    assert time.monotonic() - began < 30


def test_only_so_many_patterns_of_such_a_length() -> None:
    check_patterns(["x" * MAX_CHARACTERS] * MAX_PATTERNS)
    with pytest.raises(InvalidInput, match="at most 1,000 patterns are allowed, got 1,001"):
        check_patterns(["x"] * (MAX_PATTERNS + 1))
    with pytest.raises(InvalidInput, match=r"tensors\[1\]: at most 512 characters .* got 513"):
        check_patterns(["x", "x" * (MAX_CHARACTERS + 1)])
