"""The history of a chaos run: one file of JSON lines a process, written at once.

A line is one event at a client: a call that begins (``call``), its end (``ok``, ``refused``
with the code, ``unknown`` where the answer was lost), or an item of a watch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

Entry: TypeAlias = dict[str, Any]

CALL: Final = "call"
OK: Final = "ok"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"


class History:
    """Appends to the file of one process."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open ``folder/name.jsonl``."""
        self._file = (folder / f"{name}.jsonl").open("a", buffering=1)

    def write(self, kind: str, **content: object) -> None:
        """Append one line."""
        self._file.write(json.dumps({"time": time.monotonic(), "kind": kind, **content}) + "\n")


def read(folder: Path) -> Iterator[tuple[str, list[Entry]]]:
    """Yield the name and the lines of each process."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open() as file:
            yield path.stem, [json.loads(line) for line in file]
