"""Remove the files that an MPI library leaves when its processes are killed.

Shared memory of ranks (Open MPI: 16 MB each), and Open MPI's session folder. The libraries
remove both at an orderly end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dbp.launch.supervisor import BACKING, SHARED_MEMORY

# Of Open MPI 5 and 4, and of MPICH.
_SEGMENTS: Final = ("sm_segment.", "vader_segment.", "mpich_shm_", "mpich_shar_")


def remove_leftovers(mpirun: int, since: float, environ: Mapping[str, str]) -> None:
    """Remove the files of an mpirun whose processes have all ended.

    ``mpirun``: its pid; ``since``: the Unix time at which it was started. The names of
    shared memory files do not name their mpirun, so a file is removed if it is this user's,
    is younger than ``since``, and no process has mapped it.
    """
    temporary = Path(tempfile.gettempdir())
    of_version_4 = temporary.glob(f"ompi.*.{os.getuid()}/pid.{mpirun}")
    for folder in (temporary / f"ompi.{mpirun}", *of_version_4):
        shutil.rmtree(folder, ignore_errors=True)
    folders = {SHARED_MEMORY, *(environ.get(name, SHARED_MEMORY) for name in BACKING)}
    found = [path for folder in folders for path in _segments(Path(folder), since)]
    used = _mapped() if found else set()
    for path in found:
        if str(path) not in used:
            with contextlib.suppress(OSError):
                path.unlink()


def _segments(folder: Path, since: float) -> list[Path]:
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(_SEGMENTS):
                facts = path.lstat()
                if facts.st_uid == os.getuid() and facts.st_ctime >= since:
                    found.append(path)
    return found


def _mapped() -> set[str]:
    """Return the files that this user's processes have mapped into their memory."""
    paths = set()
    for process in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            lines = process.read_text(errors="replace").splitlines()
            paths |= {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    return paths
