"""Memory that all processes of this machine, or of this process's cgroup, may use."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from dbp.cgroup import MEMBERSHIP, MOUNT, groups, text

_MEMINFO: Final = Path("/proc/meminfo")

# Larger limits of cgroups v1 mean that there is none.
_UNLIMITED: Final = 2**60


@functools.cache  # it takes a quarter of a millisecond, which every submit would pay
def usable_memory(
    meminfo: Path = _MEMINFO, membership: Path = MEMBERSHIP, mount: Path = MOUNT
) -> int | None:
    """Return the bytes of memory and swap, or of the smallest cgroup limit; None if unknown."""
    found = {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in text(meminfo).splitlines())
        if name in ("MemTotal", "SwapTotal")
    }
    if "MemTotal" not in found:  # no Linux
        return None
    limits = [sum(found.values())]
    for group in groups("memory", membership, mount):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = text(group / name).strip()
            if limit.isdigit() and int(limit) < _UNLIMITED:
                limits.append(int(limit))
    return min(limits)
