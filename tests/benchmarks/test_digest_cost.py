"""The benchmark of digests: every digest runs and has its line."""

from __future__ import annotations

import pytest

from tests.benchmarks import digest_cost


def test_every_digest_is_measured_beside_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    digest_cost.measure("small", rounds=1)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("small: 101,770 parameters, a step ")
    assert [line.split("  ")[1] for line in lines[1:]] == [
        label.ljust(16).rstrip() for label in digest_cost.DIGESTS
    ]
