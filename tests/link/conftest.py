"""A real service for every test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from tests.service.setups import Service, serving


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
def no_zombies() -> Iterator[None]:
    """Check that no dead link stays a zombie once its reporter is closed."""
    yield
    found = [p for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE]
    assert not found
