"""Messages between rank 0's reporter and its link, one JSON line each. No network code.

To the link: ``LaunchedRun``, ``NewRun`` or ``RegisteredRun`` first, then ``TrainingStarted``,
``NumberedProgress``, ``FilledSlot``, ``NumberedOutcome`` and ``Probe``. To rank 0:
``Registered`` or ``Refused`` after ``NewRun``, then ``RunRequest``, ``StoredReports``,
``FreedSlot``, ``AttemptOver`` and ``Alive``.

Rank 0 numbers the reports and the links of its run: a link that replaces another sends
those again that the service has not stored, and the service applies each number once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from dbp.job.job_json import record_from_json, record_to_json
from dbp.job.snapshot import Manifest
from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject


@dataclass(frozen=True)
class LaunchedRun:
    """An attempt that the service launched.

    Attributes:
        service_file: The file with the address of the service, which may change.
        job: Id of the job.
        attempt: Number of the attempt.
        workers: Number of ranks.
        secret: Proves to the service that reports are those of this attempt.
        speaks_of_flags: Whether messages to users name options as flags.
        generation: Number of the link within the attempt, from 1.
    """

    service_file: str
    job: str
    attempt: int
    workers: int
    secret: str
    speaks_of_flags: bool
    generation: int = 1


@dataclass(frozen=True)
class NewRun:
    """A run started by hand, which the link registers as a job; see ``LaunchedRun``.

    Attributes:
        address: Address of the service, HOST:PORT.
        document: The spec.
        workers: Number of ranks.
        request_id: Lets the service recognize a repeated request.
        speaks_of_flags: Whether messages to users name options as flags.
    """

    address: str
    document: JsonObject
    workers: int
    request_id: str
    speaks_of_flags: bool
    generation: int = 1


@dataclass(frozen=True)
class RegisteredRun:
    """A run started by hand that an earlier link has registered; see ``NewRun``.

    Attributes:
        job: Id of the job.
        secret: Secret of its only attempt.
    """

    address: str
    job: str
    workers: int
    secret: str
    speaks_of_flags: bool
    generation: int = 1


@dataclass(frozen=True)
class TrainingStarted:
    """The ranks have met; training is about to start."""

    world_size: int
    total_steps: int


@dataclass(frozen=True)
class FilledSlot:
    """Parameters after a step are in a slot of the shared memory, ready to be published."""

    slot: int
    step: int
    manifest: Manifest
    final: bool
    best: bool


@dataclass(frozen=True)
class NumberedProgress:
    """A progress report; ``sequence`` numbers the reports of a run from 1."""

    sequence: int
    progress: ProgressReport


@dataclass(frozen=True)
class NumberedOutcome:
    """The outcome of the run, its last report."""

    sequence: int
    outcome: RunOutcome


@dataclass(frozen=True)
class Probe:
    """Asks whether the link still reads; it answers with ``Alive``."""


@dataclass(frozen=True)
class Registered:
    """The service has registered the run as this job; a later link needs the secret."""

    job: str
    secret: str


@dataclass(frozen=True)
class Refused:
    """The run was not registered; ``unavailable`` if the service did not answer."""

    message: str
    unavailable: bool


@dataclass(frozen=True)
class RunRequest:
    """A request of the service to the run."""

    stop: bool
    publish: bool


@dataclass(frozen=True)
class FreedSlot:
    """The parameters of a slot are published, or refused for good."""

    slot: int


@dataclass(frozen=True)
class StoredReports:
    """The service has stored the reports up to this number."""

    sequence: int


@dataclass(frozen=True)
class AttemptOver:
    """The service takes no more reports of this attempt."""


@dataclass(frozen=True)
class Alive:
    """The link reads its messages."""


Configuration: TypeAlias = LaunchedRun | NewRun | RegisteredRun
ToLink: TypeAlias = (
    Configuration | TrainingStarted | NumberedProgress | FilledSlot | NumberedOutcome | Probe
)
ToRank: TypeAlias = (
    Registered | Refused | RunRequest | FreedSlot | StoredReports | AttemptOver | Alive
)

TO_LINK: Final[dict[str, type[ToLink]]] = {
    cls.__name__: cls
    for cls in (
        LaunchedRun, NewRun, RegisteredRun, TrainingStarted, NumberedProgress, FilledSlot,
        NumberedOutcome, Probe,
    )
}  # fmt: skip
TO_RANK: Final[dict[str, type[ToRank]]] = {
    cls.__name__: cls
    for cls in (
        Registered, Refused, RunRequest, FreedSlot, StoredReports, AttemptOver, Alive
    )
}  # fmt: skip

M = TypeVar("M", bound=ToLink | ToRank)


def encode(message: ToLink | ToRank) -> bytes:
    """Return a message as a line: ``{"TYPE": {FIELD: VALUE, ...}}``."""
    return json.dumps({type(message).__name__: record_to_json(message)}).encode() + b"\n"


def decode(line: bytes, known: Mapping[str, type[M]]) -> M:
    """Return the message of a line.

    Args:
        line: The line, with or without its end.
        known: The messages of this direction, TO_LINK or TO_RANK.

    Raises:
        ValueError: The message is not one of these, or is malformed.
    """
    document = json.loads(line)
    if not isinstance(document, dict) or len(document) != 1:
        raise ValueError(f"a message is an object with one name, its type; got {line!r:.80}")
    ((name, content),) = document.items()
    if name not in known:
        raise ValueError(f"{name!r:.80}: no such message; known: {', '.join(known)}")
    return record_from_json(known[name], content)
