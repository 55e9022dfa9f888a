"""Messages between rank 0's reporter and its link, one JSON line each. No network code.

To the link: ``LaunchedRun`` or ``NewRun`` first, then ``TrainingStarted``, ``ProgressReport``,
``FilledSlot`` and ``RunOutcome``. To rank 0: ``Registered`` or ``Refused`` after ``NewRun``,
then ``RunRequest`` and ``FreedSlot``.
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
    """

    service_file: str
    job: str
    attempt: int
    workers: int
    secret: str
    speaks_of_flags: bool


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
class Registered:
    """The service has registered the run as this job."""

    job: str


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


Configuration: TypeAlias = LaunchedRun | NewRun
ToLink: TypeAlias = Configuration | TrainingStarted | ProgressReport | FilledSlot | RunOutcome
ToRank: TypeAlias = Registered | Refused | RunRequest | FreedSlot

TO_LINK: Final[dict[str, type[ToLink]]] = {
    cls.__name__: cls
    for cls in (
        LaunchedRun, NewRun, TrainingStarted, ProgressReport, FilledSlot, RunOutcome
    )
}  # fmt: skip
TO_RANK: Final[dict[str, type[ToRank]]] = {
    cls.__name__: cls for cls in (Registered, Refused, RunRequest, FreedSlot)
}

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
