"""Check the path that a profile is written to; loads no numpy."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from dbp.errors import InvalidInput

BEGINNING: Final = b'{"traceEvents": '  # of a trace, by which one is recognized


def check_target(target: Path) -> None:
    """Raise InvalidInput for a path whose file is no trace, and must not be replaced."""
    where = f"--profile {target}"
    if target.suffix != ".json":
        if target.exists() and not target.is_dir():
            raise InvalidInput(
                f"{where}: is a file; name a folder, or a file whose name ends in .json"
            )
        return
    if target.is_dir():
        raise InvalidInput(f"{where}: is a folder; name another file")
    if not target.parent.is_dir():
        raise InvalidInput(
            f"{where}: no folder {target.parent}; make it: mkdir -p {target.parent}"
        )
    with contextlib.suppress(FileNotFoundError), target.open("rb") as file:
        if file.read(len(BEGINNING)) != BEGINNING:
            raise InvalidInput(f"{where}: exists and is no trace; name another file")
