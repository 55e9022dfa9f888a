"""Remove the shared memory of an MPICH run that was killed while it started.

MPICH makes it in /dev/shm, under names that nothing can set, and ranks of dbp remove the names
as soon as all of them have mapped it. Before that a kill leaves a file.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Set
from pathlib import Path
from typing import Final

from dbp.launch.scratch import SHARED_MEMORY

_PREFIXES: Final = ("mpich_shm_", "mpich_vci_", "mpich_shar_")
_PAUSE_SECONDS: Final = 0.2  # MPICH maps a file within microseconds


def mpich_files() -> set[Path]:
    """Return the files of this user that MPICH has made; call it before a run."""
    found = set()
    with contextlib.suppress(OSError):  # no Linux
        for path in Path(SHARED_MEMORY).iterdir():
            if path.name.startswith(_PREFIXES) and path.lstat().st_uid == os.geteuid():
                found.add(path)
    return found


def remove_unused(before: Set[Path]) -> None:
    """Remove the files that were made since, and that no process has mapped at two looks."""
    unused = mpich_files() - before
    if not unused:
        return
    unused -= _mapped()
    time.sleep(_PAUSE_SECONDS)
    for path in unused - _mapped():
        path.unlink(missing_ok=True)


def _mapped() -> set[Path]:
    """Return the files that this user's processes have mapped into their memory."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            lines = process.read_text(errors="replace").splitlines()
            found |= {Path(line.split(maxsplit=5)[5]) for line in lines if "/" in line}
    return found
