"""The limits and times of a job manager, as one value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ManagerConfig:
    """``slots``: MPI processes at a time; ``max_queued``: jobs that may wait for them.

    ``grace_seconds``: from the request to stop until force. ``lost_contact_seconds``: how
    long a run launched by hand may be silent. ``heartbeat_seconds``: between signs of life.
    """

    slots: int
    max_queued: int = 10_000
    grace_seconds: float = 10.0
    lost_contact_seconds: float = 60.0
    heartbeat_seconds: float = 15.0
