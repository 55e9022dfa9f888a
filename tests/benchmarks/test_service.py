"""The benchmark of the service still runs; its figures are not judged here."""

from __future__ import annotations

import pytest

from tests.benchmarks import service

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("queue", ["submit, durable", "p99 of an fsync", "s**, 101 jobs"]),
        ("watching", ["20 watchers", "80 deliveries"]),
    ],
)
@pytest.mark.full
def test_a_quick_round_prints_its_table(
    part: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    service.main([part], quick=True)

    printed = capsys.readouterr().out
    for word in words:
        assert word in printed
