"""prctl(2): what the kernel does with processes whose parent dies. Linux only."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # the signal that this process gets when its parent dies
PR_SET_CHILD_SUBREAPER: Final = 36  # this process adopts orphans among its descendants


def prctl(option: int, value: int) -> None:
    """Set an option of this process; does nothing on other systems than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
