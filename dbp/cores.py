"""Processor cores that this process may use: affinity, cgroup limits, hardware threads."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

from dbp.cgroup import MEMBERSHIP, MOUNT, groups, text

SIBLINGS: Final = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def usable_cores(pid: int = 0) -> int:
    """Return the cores that a process (0: this one) may use: by affinity and cgroup limits."""
    if hasattr(os, "sched_getaffinity"):
        try:
            cores = len(os.sched_getaffinity(pid))
        except OSError:  # the process has ended
            cores = 1
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_cores()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def _cgroup_cores(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> float | None:
    """Return the cores' worth of time that cgroups grant; None without a limit."""
    limits = map(_quota, groups("cpu", membership, mount))
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(group: Path) -> float | None:
    """Return the limit of one cgroup, in cores."""
    words = text(group / "cpu.max").split() or [
        *text(group / "cpu.cfs_quota_us").split(),
        *text(group / "cpu.cfs_period_us").split(),
    ]
    if len(words) != 2 or words[0] in ("max", "-1"):
        return None
    return int(words[0]) / int(words[1])


def core_count() -> int:
    """Return the usable cores, hardware threads of one core counting once.

    Open MPI starts as many ranks on this host without ``--oversubscribe``.
    """
    try:
        siblings = {text(Path(SIBLINGS.format(cpu))) for cpu in os.sched_getaffinity(0)}
    except AttributeError:  # not Linux: the number may be too large, which does no harm
        return 1
    return min(len(siblings), usable_cores())
