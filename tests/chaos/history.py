"""The history of a chaos run: one file of JSON lines a process, written at once.

A line is one event at a client: a call that begins (``call``), its end (``ok``, ``refused``
with the code, ``unknown`` where the answer was lost), or an item of a watch. A client that was
killed leaves calls without an end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

Entry: TypeAlias = dict[str, Any]
Histories: TypeAlias = dict[str, list[Entry]]

CALL: Final = "call"
OK: Final = "ok"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"
# The file of the chaos run itself: its faults, and the time from which nothing new begins.
RUN: Final = "run"
CLOSING: Final = "closing"


class History:
    """Appends to the file of one process."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open ``folder/name.jsonl``."""
        self._file = (folder / f"{name}.jsonl").open("a", buffering=1)

    def write(self, kind: str, **content: object) -> None:
        """Append one line."""
        self._file.write(json.dumps({"time": time.monotonic(), "kind": kind, **content}) + "\n")


def read(folder: Path) -> Iterator[tuple[str, list[Entry]]]:
    """Yield the name and the lines of each process, without a line that is being written."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open() as file:
            yield path.stem, [json.loads(line) for line in file if line.endswith("\n")]


def of_operation(histories: Histories, operation: str) -> Iterator[Entry]:
    """Yield the calls of one operation and their ends, from all processes."""
    for entries in histories.values():
        yield from (entry for entry in entries if entry.get("operation") == operation)


def of_role(histories: Histories, role: str) -> Iterator[tuple[str, list[Entry]]]:
    """Yield the name and the lines of each process with this role."""
    for name, entries in histories.items():
        if name.split("-")[0] == role:
            yield name, entries
