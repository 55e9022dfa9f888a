"""Upper limits of integers and durations in requests. Light, for the command line."""

from __future__ import annotations

from typing import Final

INT32_MAX: Final = 2**31 - 1
INT64_MAX: Final = 2**63 - 1
YEAR_SECONDS: Final = 366 * 24 * 3600  # longest wait
