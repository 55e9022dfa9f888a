"""Recognize files that are not safetensors by their content, and name the remedy."""

from __future__ import annotations

import os
from pathlib import Path

from dbp.data.content import recognize
from dbp.data.file import DataFile
from dbp.errors import InvalidData, InvalidFile
from dbp.train.report.run_files import PARAMETERS


def read_parameter_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a parameter file; raise InvalidFile if it is another format."""
    name = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidFile(f"{name}: {error.strerror}") from error
    check_parameter_content(name, name)
    return content


def check_parameter_content(path: str, source: str) -> None:
    """Raise InvalidFile if a file's content is known and not safetensors.

    A file that cannot be opened here is left to its reader. ``source`` names it in the error.
    """
    try:
        found = recognize(DataFile(path))
    except InvalidData:
        return
    if found is not None and found.kind != "safetensors":
        remedy = "" if found.kind else f"; {found.remedy}"
        folder = Path(path).parent
        if (folder / PARAMETERS).is_file():  # a record of a run, such as result.json
            remedy = f"; name the run folder: {folder}"
        raise InvalidFile(
            f"{source}: not a safetensors file: it looks like {found.name}{remedy}"
        )
