"""Limits that cgroups (v2 or v1) set for this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

MEMBERSHIP: Final = Path("/proc/self/cgroup")
MOUNT: Final = Path("/sys/fs/cgroup")


def groups(
    controller: str, membership: Path = MEMBERSHIP, mount: Path = MOUNT
) -> Iterator[Path]:
    """Yield the folders of this process's group and of all above it: a limit on any counts.

    Inside a container the path named in ``membership`` may not exist below ``mount``; the mount
    itself is then the group.
    """
    for line in text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        folder = mount / controller if controllers else mount
        yield folder
        for part in path.split("/"):
            folder = folder / part if part != ".." else folder
            yield folder


def text(path: Path) -> str:
    """Return the text of a file of the kernel; "" if there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
