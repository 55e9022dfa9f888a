from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

import dbp.quantities
from dbp.quantities import count_text, duration_text, time_to_go_text

PACKAGE = Path(dbp.quantities.__file__).parent


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.0004, "0 s"), (0.04, "40 ms"), (0.9996, "1 s"),
        (2.84, "2.8 s"), (3.0, "3 s"),
        (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (725, "12 min 05 s"), (3599.4, "59 min 59 s"), (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"), (86_369, "23 h 59 min"), (86_370, "1 d 00 h"),
        (100_000, "1 d 04 h"), (float("inf"), "an unknown time"),
        (float("nan"), "an unknown time"),
    ],
)  # fmt: skip
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_time_to_go_has_whole_seconds() -> None:
    assert [time_to_go_text(s) for s in (0.2, 3.4, 125.2)] == [
        "1 s to go", "4 s to go", "2 min 06 s to go"
    ]  # fmt: skip


def test_a_count_agrees_with_its_noun() -> None:
    assert [count_text(n, "worker") for n in (0, 1, 2)] == [
        "0 workers",
        "1 worker",
        "2 workers",
    ]
    assert count_text(1, "axis", "axes") == "1 axis"
    assert count_text(12_000, "mini-batch", "mini-batches") == "12,000 mini-batches"


def test_examples_of_the_module_hold() -> None:
    assert doctest.testmod(dbp.quantities).failed == 0


def test_no_text_leaves_the_plural_to_its_reader() -> None:
    """No ``worker(s)`` in any text of the program."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value!r}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"[a-z]{3}\((s|es)\)", node.value)
        and "sqrt(s)" not in node.value
    ]

    assert found == []
