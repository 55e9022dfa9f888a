"""Watch the ranks of this host from outside, to find which one ended first and how.

mpirun is their parent and kills the others when one ends: MPICH's names any of them then.
Process descriptors become readable in the order in which the processes end; from Linux 6.15 on
they also give the exit status.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from dbp.heartbeat import slots
from dbp.launch.rank_death import RankDeath, death_in, lone_death

# The structure pidfd_info of linux/pidfd.h, first version, and the call that fills it.
_INFO_BYTES: Final = 64
_GET_INFO: Final = 3 << 30 | _INFO_BYTES << 16 | 0xFF << 8 | 11
_EXIT: Final = 1 << 3  # bit of the mask: the exit status is there
_STATUS_OFFSET: Final = 60


@final
class RankWatch:
    """Descriptors of the ranks that have reported, in a selector of the owner."""

    def __init__(self, heartbeats: Path, ranks: int, selector: selectors.BaseSelector) -> None:
        """Register the ranks with their numbers as data, as they report."""
        self._heartbeats = heartbeats
        self._alone = ranks == 1
        self._missing = set() if self._alone else set(range(ranks))
        self._selector = selector
        self._descriptors: dict[int, int] = {}
        self._ended: list[int] = []  # ranks, in the order of their ends

    def poll(self) -> None:
        """Register ranks that have reported since the last call."""
        if not self._missing or not hasattr(os, "pidfd_open"):
            return
        beats = slots.read(self._heartbeats)[slots.FIRST_RANK :]
        for rank in [rank for rank in self._missing if rank < len(beats) and beats[rank].pid]:
            self._missing.discard(rank)
            with contextlib.suppress(OSError):
                descriptor = os.pidfd_open(beats[rank].pid)
                self._descriptors[rank] = descriptor
                self._selector.register(descriptor, selectors.EVENT_READ, rank)

    def note_end(self, rank: int) -> None:
        """Note that a rank's descriptor is readable; call it in the order of events."""
        self._ended.append(rank)
        self._selector.unregister(self._descriptors[rank])

    def death(self, exit_code: int, output: str) -> RankDeath | None:
        """Return the end of the rank that ended first, and not well; None if unknown.

        Args:
            exit_code: Of mpirun or the only rank; negative for a signal.
            output: The end of mpirun's output, with its notices.
        """
        beats = slots.read(self._heartbeats)
        if self._alone:
            return lone_death(exit_code, beats)
        if exit_code < 0:
            return None  # mpirun was killed, and its ranks with it
        reported = death_in(output, beats)
        if reported is not None and reported.rank in self._missing:
            return reported  # it ended before it reported; mpirun ended the others
        for rank in self._ended:
            status = _status(self._descriptors[rank])
            if status is None and reported is not None:  # an older kernel
                return _death(rank, reported.signal, reported.exit_code, beats)
            if status:
                code = os.waitstatus_to_exitcode(status)
                return _death(rank, max(0, -code), code if code > 0 else None, beats)
        return reported


def _death(rank: int, signal: int, code: int | None, beats: Sequence[slots.Beat]) -> RankDeath:
    return RankDeath(
        rank, socket.gethostname(), signal, code, beats[slots.FIRST_RANK + rank].step
    )


def _status(descriptor: int) -> int | None:
    """Return the status, as waitpid does, of a process that is reaped; None if unknown."""
    info = bytearray(_INFO_BYTES)
    struct.pack_into("=Q", info, 0, _EXIT)
    try:
        fcntl.ioctl(descriptor, _GET_INFO, info)
    except OSError:
        return None
    (mask,) = struct.unpack_from("=Q", info, 0)
    (status,) = struct.unpack_from("=i", info, _STATUS_OFFSET)
    return int(status) if mask & _EXIT else None
