"""The benchmark of access control: every variant runs and has its line."""

from __future__ import annotations

import asyncio

import pytest

from tests.benchmarks import access_cost
from tests.service.certificates import NEEDS_OPENSSL

pytestmark = pytest.mark.processes


@NEEDS_OPENSSL
def test_every_variant_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    access_cost.report(asyncio.run(access_cost.measure(3, 1)))

    lines = capsys.readouterr().out.splitlines()
    assert [line[:24].strip() for line in lines[1:]] == [
        "socket: bare", "TCP: bare", "TCP, TLS: bare",
        "socket: gate", "TCP: gate, token", "TCP, TLS: gate, token",
        "check in a thread", "check in a process",
    ]  # fmt: skip
    assert all(float(line[24:33]) > 0 for line in lines[1:])
