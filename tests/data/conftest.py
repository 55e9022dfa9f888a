"""For readers that hold small files in memory and read parts of large ones."""

from __future__ import annotations

import pytest

from dbp.data import rows as rows_module


@pytest.fixture(params=[0, 2**20], ids=["disk", "memory"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes up to which a file is read into memory: none at all, or every test's file."""
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", request.param)
    return int(request.param)
