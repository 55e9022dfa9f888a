"""Check the path that a profile is written to; loads no numpy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from dbp.errors import InvalidInput

BEGINNING: Final = b'{"traceEvents": '  # of a trace, by which one is recognized
# Files of a profile in a folder: a trace of each rank, and a summary.
TRACES: Final = "rank-*.json"
SUMMARY: Final = "summary.json"


def check_target(target: Path) -> None:
    """Raise InvalidInput for a path that cannot be written, or must not be replaced."""
    where = f"profile {target}"
    if target.suffix == ".json":
        _check_file(target, where)
        return
    if target.exists() and not target.is_dir():
        raise InvalidInput(
            f"{where}: is a file; name a folder, or a file whose name ends in .json"
        )
    traces = list(target.glob(TRACES))
    foreign = [path for path in traces if not _is_trace(path)]
    if (target / SUMMARY).exists() and not traces:
        foreign.append(target / SUMMARY)
    if foreign:
        raise InvalidInput(
            f"{where}: {foreign[0].name} in it is no profile's; name another folder"
        )
    _check_folder(target, where)


def _check_file(target: Path, where: str) -> None:
    if target.is_dir():
        raise InvalidInput(f"{where}: is a folder; name another file")
    _check_folder(target.parent, where)
    if not target.parent.exists():
        raise InvalidInput(
            f"{where}: no folder {target.parent}; make it: mkdir -p {target.parent}"
        )
    if target.exists() and not _is_trace(target):
        raise InvalidInput(f"{where}: exists and is no trace; name another file")


def _check_folder(path: Path, where: str) -> None:
    """Raise InvalidInput if files cannot be made in a folder, or the folder not made."""
    folder = next(found for found in (path, *path.absolute().parents) if found.exists())
    if not folder.is_dir():
        raise InvalidInput(f"{where}: {folder} is a file; name another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInput(f"{where}: {folder} cannot be written to; name another path")


def _is_trace(path: Path) -> bool:
    """Return whether a regular file begins as a trace."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(BEGINNING)) == BEGINNING
    except OSError:
        return False
