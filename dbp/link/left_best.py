"""The best parameters of a run that no link could deliver: a file in the attempt's folder.

Their memory ends with rank 0, and a service that is down at the end of a run would never get
them. The final parameters are in the run folder anyway.
"""

from __future__ import annotations

import logging
import mmap
from pathlib import Path
from typing import final

from dbp.job.snapshot import Manifest, encode_header
from dbp.link.messages import FilledSlot
from dbp.storage.atomic_file import write_file
from dbp.train.report.sink import ParameterSnapshot

log = logging.getLogger("dbp.rpc")


@final
class LeftBest:
    """The newest best parameters that are not delivered: in a slot, or without one."""

    def __init__(self, path: Path | None) -> None:
        """``path``: the file; None for a run whose files the service cannot see."""
        self._path = path
        self._filled: dict[int, FilledSlot] = {}  # by slot, until the link frees it
        self._refused: ParameterSnapshot | None = None  # no slot was free

    def fill(self, filled: FilledSlot) -> None:
        """Note that a link is to deliver this slot."""
        self._filled[filled.slot] = filled
        self._refused = None

    def freed(self, slot: int) -> None:
        """Note that a slot was delivered."""
        self._filled.pop(slot, None)

    def refuse(self, snapshot: ParameterSnapshot) -> None:
        """Note that no slot was free; the final parameters are no concern of this class."""
        if self._path is not None and snapshot.best and not snapshot.final:
            self._refused = snapshot

    def roll_back(self, step: int) -> None:
        """Drop refused parameters of undone steps."""
        if self._refused is not None and self._refused.step > step:
            self._refused = None

    def precedes(self, snapshot: ParameterSnapshot) -> bool:
        """Whether the service is to publish the file before these final parameters."""
        return snapshot.final and self._refused is not None

    def leave(self, memory: mmap.mmap | None) -> None:
        """Write the file, if there is something to write; the service publishes it."""
        if self._path is None:
            return
        best = [slot for slot in self._filled.values() if slot.best and not slot.final]
        if self._refused is not None:
            data = self._refused.vector.data.cast("B")
            _write(self._path, self._refused.manifest, data)
        elif best and memory is not None:
            newest = max(best, key=lambda slot: slot.step)
            size = newest.manifest.size_bytes
            with memoryview(memory) as whole, whole[newest.slot * size :][:size] as data:
                _write(self._path, newest.manifest, data)


def _write(path: Path, manifest: Manifest, data: memoryview) -> None:
    try:
        write_file(path, [encode_header(manifest), data])
    except OSError as error:
        log.warning("the best parameters are not published: %s", error.strerror)
