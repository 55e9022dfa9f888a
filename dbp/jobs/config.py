"""Limits and timeouts of a job manager."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ManagerConfig:
    """Limits and timeouts; all times in seconds.

    Args:
        max_queued: jobs that may wait for slots.
        grace_seconds: from a cancel request until the processes are killed.
        lost_contact_seconds: how long a run started by hand may be silent.
        heartbeat_seconds: interval of heartbeats on an idle stream.
    """

    max_queued: int = 10_000
    grace_seconds: float = 10.0
    lost_contact_seconds: float = 60.0
    heartbeat_seconds: float = 5.0
