"""For all tests: a place of their own for temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder() -> Iterator[None]:
    """What a killed mpirun leaves must not meet a later one that has its process number.

    Its name is short, for Unix sockets are made in it.
    """
    with (
        tempfile.TemporaryDirectory(prefix="dbp-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        yield
