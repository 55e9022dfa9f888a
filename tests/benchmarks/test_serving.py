"""The benchmarks of serving still run; what they measure is not judged here."""

from __future__ import annotations

import pytest

from tests.benchmarks import serving

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("streaming", ["bare, asyncio", "dbp, kept and verified", "times the payload"]),
        ("notification", ["the first byte of 0.4 MB", "last of 1,000 watchers"]),
        ("information", ["p50", "16 callers"]),
        ("stopped", ["and one that reads", "and one that is stopped"]),
    ],
)
@pytest.mark.full
def test_a_quick_round_prints_its_table(
    part: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    serving.main([part], quick=True)

    printed = capsys.readouterr().out
    for word in words:
        assert word in printed
