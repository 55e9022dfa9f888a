"""The limit of every wait for something that must come about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# Far above what any wait takes on a machine under load, below the limit of a test (180 s): a
# wait that reaches it has failed. A short limit would only measure the machine.
DEADLINE = 150.0


def until(condition: Callable[[], Any], seconds: float = DEADLINE) -> None:
    """Wait for what other processes or threads bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
