"""Check the path that a profile is written to; loads no numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbp.errors import InvalidInput

BEGINNING: Final = b'{"traceEvents": '  # of a trace, by which one is recognized


# Files of a profile in a folder: a trace of each rank, and a summary.
TRACES: Final = "rank-*.json"
SUMMARY: Final = "summary.json"


def check_target(target: Path) -> None:
    """Raise InvalidInput for a path whose file is no trace, and must not be replaced."""
    where = f"profile {target}"
    if target.suffix != ".json":
        if target.exists() and not target.is_dir():
            raise InvalidInput(
                f"{where}: is a file; name a folder, or a file whose name ends in .json"
            )
        traces = sorted(target.glob(TRACES))
        for path in traces or [path for path in (target / SUMMARY,) if path.exists()]:
            if path.name == SUMMARY or not _is_trace(path):
                raise InvalidInput(
                    f"{where}: {path.name} in it is no profile's; name another folder"
                )
        return
    if target.is_dir():
        raise InvalidInput(f"{where}: is a folder; name another file")
    if not target.parent.is_dir():
        raise InvalidInput(
            f"{where}: no folder {target.parent}; make it: mkdir -p {target.parent}"
        )
    if target.exists() and not _is_trace(target):
        raise InvalidInput(f"{where}: exists and is no trace; name another file")


def _is_trace(path: Path) -> bool:
    """Return whether a regular file begins as a trace."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(BEGINNING)) == BEGINNING
    except OSError:
        return False
