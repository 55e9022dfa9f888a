"""A run on a terminal, whose processes all end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scratch import scratch
from tests.system.terminal_run import Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with scratch() as variables:
        starter = Start(tmp_path, variables)
        yield starter
        for run in starter.runs:
            run.close()
