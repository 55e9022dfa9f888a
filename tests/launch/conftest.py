"""End the attempts that a test leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.supervised_run import SupervisedRun


@pytest.fixture(autouse=True)
async def _leave_nothing_behind(tmp_path: Path) -> AsyncIterator[None]:
    """Also where a test failed midway."""
    yield
    for path in tmp_path.rglob("supervisor.json"):
        run = SupervisedRun(AttemptFiles(path.parent))
        await run.kill()
        await run.wait()
