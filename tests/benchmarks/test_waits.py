"""The benchmark of waiting ranks: every variant runs and has its line."""

from __future__ import annotations

import pytest

from tests.benchmarks import waits

pytestmark = pytest.mark.processes


def test_every_variant_is_timed_alone_and_beside_busy_loops(
    capsys: pytest.CaptureFixture[str],
) -> None:
    waits.report(waits.measure(rounds=1, steps=20))

    lines = capsys.readouterr().out.splitlines()
    assert [line[:20].strip() for line in lines[1:]] == [
        *waits.VARIANTS, "2 ranks / 1 rank", "yielding / spinning",
    ]  # fmt: skip
    for line in lines[1:4]:
        assert line.count(" s ") == 2
