"""Single values against annotations and limits."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest

from dbp.errors import Violation
from dbp.job.spec.fields import (
    INVALID,
    MAX_DEPTH,
    MAX_TEXT,
    at,
    read_options,
    read_plain,
    read_value,
    shown,
)
from dbp.option_types import NO_LIMITS, Limits

ACCEPTED = [
    (3, int, 3),
    (3, float, 3.0),
    (0.5, float, 0.5),
    (-0.0, float, 0.0),
    (True, bool, True),
    ("a", str, "a"),
    ("unit", Literal["none", "unit"], "unit"),
    ([3, 4], tuple[int, ...], (3, 4)),
    ([], tuple[int, ...], ()),
    ([1, 2], tuple[float, float], (1.0, 2.0)),
    (2, int | str, 2),
    ("price", int | str, "price"),
    (2, float | int, 2),
    (4, int | None, 4),
    (2**63 - 1, int, 2**63 - 1),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), ACCEPTED)
def test_a_fitting_value_takes_the_type_of_its_field(
    value: Any, annotation: Any, expected: Any
) -> None:
    violations: list[Violation] = []

    read = read_value(value, annotation, NO_LIMITS, "x", violations)

    assert violations == []
    assert read == expected
    assert type(read) is type(expected)
    assert not (isinstance(read, float) and read == 0 and math.copysign(1, read) < 0)


REFUSED = [
    (True, int, "must be an integer, got true"),
    (False, float, "must be a number, got false"),
    (1, bool, "must be true or false, got 1"),
    ("3", int, "must be an integer, got '3'"),
    (3.0, int, "must be an integer, got 3.0"),
    (3, str, "must be a string, got 3"),
    (None, int, "must be an integer, got null"),
    ({}, float, "must be a number, got a table"),
    ([1], float, "must be a number, got a list of 1"),
    (2**63, int, "must be smaller than 2**63 in size, got 9223372036854775808"),
    (-(10**40), int, "must be smaller than 2**63 in size, got an integer of 133 bits"),
    (2**63, float, "must be smaller than 2**63 in size, got 9223372036854775808"),
    (math.nan, float, "must be finite, got nan"),
    (math.inf, float, "must be finite, got inf"),
    (-math.inf, float, "must be finite, got -inf"),
    (
        "unti",
        Literal["none", "unit"],
        "unknown 'unti', did you mean 'unit'? allowed: none, unit",
    ),
    ("xyz", Literal["none", "unit"], "unknown 'xyz'; allowed: none, unit"),
    ("a\0b", str, "must be a string without NUL and lone surrogates, got 'a\\x00b'"),
    ("\ud800", str, "must be a string without NUL and lone surrogates, got '\\ud800'"),
    ("x" * (MAX_TEXT + 1), str, "must have at most 4096 characters, got 4097"),
    ([1, 2, 3], tuple[int, int], "must be 2 integers, got 3"),
    (1.5, int | str, "must be an integer or a string, got 1.5"),
]


@pytest.mark.parametrize(("value", "annotation", "message"), REFUSED)
def test_a_wrong_value_is_refused_with_expected_and_given_value(
    value: Any, annotation: Any, message: str
) -> None:
    violations: list[Violation] = []

    assert read_value(value, annotation, NO_LIMITS, "model.x", violations) is INVALID
    assert violations == [Violation("model.x", message)]


LIMITS = [
    (Limits(minimum=1), [1, 2], [0, -1]),
    (Limits(maximum=4), [4, -9], [5]),
    (Limits(above=0), [0.001, 5e-324], [0, -0.0, -1]),
    (Limits(below=1), [0.999], [1, 1.5]),
    (Limits(minimum=1, maximum=3), [1, 3], [0, 4]),
]


@pytest.mark.parametrize(("limits", "inside", "outside"), LIMITS)
def test_limits_hold_at_their_very_ends(
    limits: Limits, inside: list[float], outside: list[float]
) -> None:
    for value in inside:
        assert read_value(value, float, limits, "x", []) == value
    for value in outside:
        violations: list[Violation] = []
        assert read_value(value, float, limits, "x", violations) is INVALID
        assert f"got {value}" in violations[0].message


def test_limits_count_for_each_element_of_a_list_by_its_position() -> None:
    violations: list[Violation] = []

    read_value([3, 0, "a"], tuple[int, ...], Limits(minimum=1), "sizes", violations)

    assert [v.path for v in violations] == ["sizes[1]", "sizes[2]"]


def test_a_long_value_is_cut_in_messages() -> None:
    assert len(shown("x" * 5000)) < 100
    assert shown("\x1b[31m") == "'\\x1b[31m'"


@pytest.mark.parametrize(
    ("key", "path"),
    [("units", "a.units"), ("no way", "a.'no way'"), ("\x1b[0m", "a.'\\x1b[0m'"), ("", "a.''")],
)
def test_unusual_keys_are_quoted_in_paths(key: str, path: str) -> None:
    assert at("a", key) == path


def test_options_of_any_depth_are_copied_and_judged() -> None:
    violations: list[Violation] = []
    options = {"a": [1, {"b": -0.0}], "c": math.nan, "d": {"e": None}}

    copy = read_options(options, "x", violations)

    assert copy["a"] == [1, {"b": 0.0}]
    assert copy["a"] is not options["a"]
    assert copy["c"] is INVALID
    assert [v.path for v in violations] == ["x.c", "x.d.e"]


def test_deeply_nested_options_are_refused_before_the_stack_is() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    violations: list[Violation] = []

    read_plain(deep, "x", violations)

    assert violations[0].message == f"tables and lists nested deeper than {MAX_DEPTH}"
