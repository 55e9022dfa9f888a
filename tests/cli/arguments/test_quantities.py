"""Durations and sizes as people write them."""

from __future__ import annotations

import click
import pytest

from dbp.cli.arguments.quantities import DURATION, SIZE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45 min", 2_700), ("12h", 43_200), ("1.5d", 129_600), ("2w", 1_209_600)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096B", 4_096), ("500MB", 500_000_000), ("500mb", 500_000_000), ("1.5 GB", 1.5e9),
        ("2TB", 2e12), ("20GiB", 20 << 30), ("20gib", 20 << 30), ("8KiB", 8_192),
    ],
)  # fmt: skip
def test_a_size_is_read_in_bytes(text: str, size: float) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize(
    "text", ["30", "d", "-1d", "1e3d", "3 fortnights", "30GB", "", "nan d"]
)
def test_a_duration_without_number_or_unit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"s, min, h, d, w\), such as 30d or 12h"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize("text", ["20", "20 G", "GB", "-1GB", "30d"])
def test_a_size_without_number_or_unit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"MB, GB, TB, .*such as 500MB or 20GB"):
        SIZE.convert(text, None, None)


@pytest.mark.parametrize("text", ["0d", "0.0s", "9" * 400 + "d"])
def test_a_duration_must_be_finite_and_positive(text: str) -> None:
    with pytest.raises(click.BadParameter, match="must be finite and more than 0"):
        DURATION.convert(text, None, None)
