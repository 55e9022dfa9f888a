"""The limit of open files: connections leave some, and a call that has none says so."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from dbp.errors import InvalidData, WrongState
from dbp.service.open_files import max_connections, too_many_files


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(256, 128), (1024, 768), (20_000, 10_000), (resource.RLIM_INFINITY, 10_000)],
)
def test_connections_leave_files_for_the_service_itself(
    monkeypatch: pytest.MonkeyPatch, limit: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, resource.RLIM_INFINITY))

    assert max_connections() == connections


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_an_error_for_want_of_files_is_found_at_its_cause(number: int) -> None:
    cause = OSError(number, os.strerror(number))
    chained, quoted = InvalidData("data.train: cannot be read"), InvalidData(f"x: {cause}")
    chained.__cause__ = WrongState("in between")
    chained.__cause__.__context__ = cause

    for error in (cause, chained, quoted):
        found = too_many_files(error)
        assert found is not None
        assert "ulimit -n" in str(found)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "no"), InvalidData("bad"), KeyError()])
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    assert too_many_files(error) is None
