"""Call prctl(2), which says what happens to processes whose parent dies (Linux only)."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # signal that this process gets when its parent dies
PR_SET_CHILD_SUBREAPER: Final = 36  # this process adopts orphans among its descendants


def prctl(option: int, value: int) -> None:
    """Set an option of this process; do nothing on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
