"""Checks of a job: their request, their result, and why one is not made at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from dbp.json_value import JsonObject


@dataclass(frozen=True)
class Checked:
    """A valid spec: the resolved document, its digest, and notes for the user.

    ``data_digest``, ``confined``: as in ``Job``. ``is_whole``: all of its data were
    checked, not their headers and first rows alone.
    """

    document: JsonObject
    digest: str
    notes: tuple[str, ...] = ()
    data_digest: str = ""
    is_whole: bool = True
    confined: bool = False


@dataclass(frozen=True)
class CheckRequest:
    """A check in a process of its own, which ends with it.

    Attributes:
        document: The spec.
        workers: Number of ranks.
        owner: User whose job it is: checks of one owner wait for each other.
        whole: Check all data, not their headers and first rows alone.
        seconds: Time until the process is killed.
        memory_bytes: Memory that the process may take.
        confined: As ``Job.confined``.
    """

    document: JsonObject
    workers: int
    owner: str
    whole: bool
    seconds: float
    memory_bytes: int
    confined: bool


class NotCheapError(Exception):
    """The data take a process of their own; ``whole``: a caller can wait for all of them.

    ``confined``: as ``Job.confined``.
    """

    def __init__(self, *, whole: bool, confined: bool = False) -> None:
        super().__init__()
        self.whole = whole
        self.confined = confined


class CheckFailedError(Exception):
    """A check took too long or too much memory, so that the data may be sound or not."""


# document, workers -> the valid spec; raises InvalidSpec, and NotCheapError
Check: TypeAlias = Callable[[JsonObject, int], Checked]

# Checks in a process; raises InvalidSpec, CheckFailedError, ResourceExhausted and Unavailable
CheckApart: TypeAlias = Callable[[CheckRequest], Awaitable[Checked]]


async def cannot_check(request: CheckRequest) -> Checked:
    """Fail: for a service without processes for checks."""
    raise CheckFailedError("this service checks no data in processes")


@dataclass(frozen=True)
class Checks:
    """Validators of specs: for jobs that the service starts, and for runs started by hand. The
    files of a run started by hand are not checked; they may be on another machine.

    ``apart``: for jobs whose data are not cheap to check.
    """

    job: Check
    run: Check
    apart: CheckApart = cannot_check
