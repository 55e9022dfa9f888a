"""Find which rank ended a run, and how, in the notices of mpirun.

mpirun is the parent of the ranks, so only it knows their exit codes and signals. Open MPI names
the rank, MPICH its process, whose rank the heartbeats name.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from dbp.heartbeat.slots import FIRST_RANK, Beat

# Open MPI's mpirun adds this line from another thread, even between two lines of a notice.
PMIX_ERROR: Final = r"\[[^\]\s]+:\d+\] PMIX ERROR: .*\n?"

_OPEN_MPI_SIGNAL: Final = re.compile(
    r"process rank\s+(?P<rank>\d+)\s+with PID\s+\d+\s+on node\s+(?P<host>\S+)\s+exited\s+on\s+"
    r"signal\s+(?P<signal>\d+)"
)
_OPEN_MPI_CODE: Final = re.compile(
    r"Process name:\s*\[.*,(?P<rank>\d+)\]\s+Exit code:\s*(?P<code>\d+)"
)
_HYDRA: Final = re.compile(
    r"^=\s+(?:RANK\s+\d+\s+)?PID\s+(?P<pid>\d+)\s+RUNNING AT\s+(?P<host>\S+)\s+"
    r"=\s+(?:EXIT CODE:\s+(?P<code>\d+)|KILLED BY SIGNAL:\s+(?P<signal>\d+))",
    re.MULTILINE,
)
_HYDRA_SIGNAL: Final = re.compile(
    r"^YOUR APPLICATION TERMINATED .*\(signal (\d+)\)", re.MULTILINE
)


@dataclass(frozen=True)
class RankDeath:
    """The rank whose end ended the run.

    Attributes:
        rank: Number of the rank; None if unknown.
        host: Host of the rank; "" if unknown.
        signal: Signal that ended the rank; 0 for none.
        exit_code: Exit code of the rank; None if a signal ended it.
        step: Step under way in the rank; 0 before the first, or if unknown.
    """

    rank: int | None
    host: str
    signal: int = 0
    exit_code: int | None = None
    step: int = 0


def lone_death(exit_code: int, beats: Sequence[Beat]) -> RankDeath | None:
    """Return the end of the only rank, which has no mpirun; None if it ended well.

    ``exit_code`` is negative for a signal, ``beats`` as ``slots.read`` returns them.
    """
    if exit_code == 0:
        return None
    code = exit_code if exit_code > 0 else None
    return _at_step(RankDeath(0, socket.gethostname(), max(0, -exit_code), code), beats)


def death_in(output: str, beats: Sequence[Beat]) -> RankDeath | None:
    """Return the end of a rank that mpirun reports in its output; None if it reports none."""
    output = re.sub(PMIX_ERROR, "", output)
    if found := _last(_OPEN_MPI_SIGNAL, output):
        death = RankDeath(int(found["rank"]), found["host"], int(found["signal"]))
    elif found := _last(_OPEN_MPI_CODE, output):
        death = RankDeath(int(found["rank"]), "", exit_code=int(found["code"]))
    elif found := _last(_HYDRA, output):
        death = _by_hydra(found, output, beats)
    else:
        return None
    return _at_step(death, beats)


def _by_hydra(found: re.Match[str], output: str, beats: Sequence[Beat]) -> RankDeath:
    pids = [beat.pid for beat in beats[FIRST_RANK:]]
    pid = int(found["pid"])
    rank = pids.index(pid) if pid in pids else None
    named = _HYDRA_SIGNAL.search(output, found.end())
    number = int(found["signal"] or (named[1] if named else 0))
    return RankDeath(rank, found["host"], number, None if number else int(found["code"]))


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(reversed(list(pattern.finditer(text))), None)


def _at_step(death: RankDeath, beats: Sequence[Beat]) -> RankDeath:
    line = FIRST_RANK + (death.rank or 0)
    known = death.rank is not None and line < len(beats)
    return replace(death, step=beats[line].step) if known else death
