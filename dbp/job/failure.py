"""Why a job or an attempt of it failed, and the conditions that a job can be in."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

# Of a message; an exception may have a text of any length, and lists hold many failures.
MESSAGE_CHARACTERS: Final = 4_000


class FailureReason(enum.StrEnum):
    """Why a job, or one attempt of it, failed, or why a job was cancelled by force."""

    LAUNCH_FAILED = "LAUNCH_FAILED"
    RANK_EXCEPTION = "RANK_EXCEPTION"
    RANK_SIGNAL = "RANK_SIGNAL"
    NON_FINITE = "NON_FINITE"
    NOTHING_APPLIED = "NOTHING_APPLIED"
    DIVERGED = "DIVERGED"
    LOST_SUPERVISOR = "LOST_SUPERVISOR"
    LOST_CONTACT = "LOST_CONTACT"
    FORCED = "FORCED"
    NO_VERDICT = "NO_VERDICT"
    INVALID_DATA = "INVALID_DATA"
    NOT_WRITTEN = "NOT_WRITTEN"
    STALLED = "STALLED"
    PREEMPTED = "PREEMPTED"
    DATA_CHANGED = "DATA_CHANGED"
    STATE_LOST = "STATE_LOST"
    LAUNCHER_SIGNAL = "LAUNCHER_SIGNAL"
    DRAINED = "DRAINED"
    DISK_FULL = "DISK_FULL"
    RESTORED = "RESTORED"
    # Sent by a service that knows more reasons than this client.
    UNSPECIFIED = "UNSPECIFIED"


@dataclass(frozen=True)
class Failure:
    """Reason of a failed job or attempt; fields as in the proto's ``JobFailure``.

    Attributes:
        reason: For programs.
        message: For people.
        exit_code: Of the launcher; None if a signal ended it.
        signal: Number of the signal that ended the launcher or a rank; 0 for none.
        log_tail: Last lines of the log.
        step: Last completed step.
        rank: The rank that failed first; None if unknown.
        host: Of that rank, else of rank 0; "" if unknown.
        attempt: The attempt that failed.
        checkpoint_step: Step of the newest valid checkpoint after the failure; 0 for none.
        retry_helps: Whether another attempt may end otherwise.
    """

    reason: FailureReason
    message: str
    exit_code: int | None = None
    signal: int = 0
    log_tail: tuple[str, ...] = ()
    step: int = 0
    rank: int | None = None
    host: str = ""
    attempt: int = 0
    checkpoint_step: int = 0
    retry_helps: bool = False


def shortened(message: str) -> str:
    """Return a message of at most ``MESSAGE_CHARACTERS``, with a note if it was longer."""
    if len(message) <= MESSAGE_CHARACTERS:
        return message
    note = f" ... ({len(message):,} characters; see the log)"
    return message[: MESSAGE_CHARACTERS - len(note)] + note


class ConditionKind(enum.StrEnum):
    """Kinds of conditions of a job, beside its state."""

    STALLED = "STALLED"
    LOST_CONTACT = "LOST_CONTACT"
    DISK_FULL = "DISK_FULL"
    CHECKING = "CHECKING"
    # Sent by a service that knows more kinds than this client.
    UNSPECIFIED = "UNSPECIFIED"


@dataclass(frozen=True)
class Condition:
    """A condition of a job that holds since a Unix time; ``message`` is for people."""

    kind: ConditionKind
    message: str
    since: float
