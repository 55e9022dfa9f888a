"""The limit of open files: shared with connections, and named when it is reached."""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

from dbp.errors import DbpError, ResourceExhausted

# For the database, logs, versions and processes of jobs; connections get the others.
_RESERVED: Final = 256
_MAX_CONNECTIONS: Final = 10_000
# Option of a server; further connections are closed at once.
CONNECTIONS: Final = "grpc.max_allowed_incoming_connections"
_REACHED: Final = (errno.EMFILE, errno.ENFILE)
_TEXTS: Final = tuple(map(os.strerror, _REACHED))


def max_connections() -> int:
    """Return how many connections the service accepts with its limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(soft // 2, min(_MAX_CONNECTIONS, soft - _RESERVED))


def too_many_files(error: BaseException) -> ResourceExhausted | None:
    """Return the error for a call that failed for want of files to open; else None."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _REACHED:
            break
        if isinstance(found, DbpError) and any(text in str(found) for text in _TEXTS):
            break
        found = found.__cause__ or found.__context__
    if found is None:
        return None
    return ResourceExhausted(
        "the service has as many files and connections open as it may; try again later, or "
        "start it with a higher limit (ulimit -n, LimitNOFILE of systemd)"
    )
