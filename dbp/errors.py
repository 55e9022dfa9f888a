"""All exceptions that dbp raises on purpose, as a tree of classes.

::

    DbpError
    ├── InvalidInput           the caller's input is wrong: exit code 2, INVALID_ARGUMENT
    │   ├── InvalidArgument    an argument's value is not allowed; also a ValueError
    │   ├── InvalidType        an argument has the wrong type; also a TypeError
    │   ├── WrongEventLoop     AsyncClient is used outside its event loop; also a RuntimeError
    │   ├── ClientForked       the process was forked after a client was made; a RuntimeError
    │   ├── InvalidSpec        a job spec breaks rules; carries every violation at once
    │   ├── InvalidData        a data file is missing, damaged or does not fit the model
    │   │   └── DataChanged    the data are not those of the checkpoint of a resumed run
    │   ├── InvalidFile        a parameter, spec or checkpoint file is missing or damaged
    │   └── RunDiskFull        the disk has no space for the folder of a run
    ├── NotFound               the job, version, label, tensor or model does not exist
    │   ├── JobNotFound        no job of that id
    │   ├── VersionNotFound    no such version or step, yet
    │   ├── LabelNotFound      the job has no such label
    │   ├── TensorNotFound     a pattern matches no tensor
    │   └── ModelNotFound      no job or label has the model's name
    ├── AlreadyExists          the name is taken by something different
    ├── WrongState             the job's state forbids the request
    │   ├── NotPublishedYet    the job has no parameters yet
    │   ├── StaleParameters    they are older than the caller allows
    │   └── UseStream          they are too large for one message
    ├── OutOfRange             a version or resume token is no longer kept
    │   └── VersionEvicted     the version was there
    ├── ResourceExhausted      a queue or a limit is full; trying later may help
    │   ├── DiskFull           the service's disk is full
    │   └── TooManyReaders     the caller reads too much at once
    ├── DataLoss               stored bytes do not match their digest
    │   ├── CorruptParameters  those of a version
    │   └── StateDamaged       the service's database is damaged, or older than its jobs
    ├── Unavailable            the service cannot be reached or is shutting down
    │   ├── Draining           it is shutting down
    │   ├── StateGone          its state folder was deleted
    │   ├── DeadlineExceeded   it did not answer in time, or sent no heartbeat
    │   └── ClientClosed       the caller has closed the client
    ├── Unauthenticated        the caller did not prove who it is
    ├── PermissionDenied       the caller's role, or the job's owner, forbids the request
    ├── Conflict               a folder or a port is held by another process
    ├── Unsupported            this installation or service cannot do the request
    │   ├── MissingDependency  a program or a package that the request needs is absent
    │   └── UnknownMethod      the service has no method of that name
    └── TrainingFailed         a run ended badly (non-finite loss, a lost rank, ...)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

SHOWN_VIOLATIONS = 50


class DbpError(Exception):
    """Base of all errors that dbp raises on purpose; the text is for the user.

    ``metadata`` contains details for programs, as strings; it may be empty.
    """

    def __init__(self, /, *texts: object, **metadata: object) -> None:
        super().__init__(*texts)
        self.metadata: dict[str, str] = {name: str(value) for name, value in metadata.items()}


class InvalidInput(DbpError):
    """The caller's input is wrong; nothing was started."""


class InvalidArgument(InvalidInput, ValueError):
    """An argument of the Python API has a value that is not allowed; nothing was sent."""


class InvalidType(InvalidInput, TypeError):
    """An argument of the Python API has the wrong type; nothing was sent."""


class WrongEventLoop(InvalidInput, RuntimeError):
    """An AsyncClient is made outside an event loop, or used in another than its own."""


class ClientForked(InvalidInput, RuntimeError):
    """The process was forked after a client was made: no client works in it."""


@dataclass(frozen=True)
class Violation:
    """One broken rule of a spec: the field's path (``model.layers[2].units``) and a message.

    ``line`` is the field's line in the spec file, from 1; 0 if unknown.
    """

    path: str
    message: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidSpec(InvalidInput):
    """A job spec breaks rules; ``violations`` lists all of them, ``source`` is its file."""

    def __init__(self, violations: Iterable[Violation], source: str = "") -> None:
        self.violations: tuple[Violation, ...] = tuple(violations)
        self.source = source
        super().__init__(_spec_text(self.violations, source))

    def __reduce__(self) -> tuple[object, ...]:  # the text alone would not make one
        return type(self), (self.violations, self.source), self.__dict__


def _spec_text(violations: Sequence[Violation], source: str) -> str:
    """Return ``job.toml:12: path: message``, or a count and one line for each violation."""
    if len(violations) == 1:
        only = violations[0]
        line = f":{only.line}" if only.line else ""
        return f"{source}{line}: {only}" if source else str(only)
    lines = [f"line {v.line}: {v}" if v.line else str(v) for v in violations[:SHOWN_VIOLATIONS]]
    hidden = len(violations) - len(lines)
    if hidden:
        lines.append(f"... and {hidden} more")
    head = f"{source}: " if source else ""
    return f"{head}{len(violations)} problems" + "".join(f"\n  {line}" for line in lines)


class InvalidData(InvalidInput):
    """A data file is missing, damaged or does not fit the model; names the file."""


class DataChanged(InvalidData):
    """The data are not those that the checkpoint of a resumed run was trained on."""


class InvalidFile(InvalidInput):
    """A parameter, spec or checkpoint file is missing or damaged; names the file."""


class RunDiskFull(InvalidInput):
    """The disk, or its user's quota, has no space for the folder of a run."""


class NotFound(DbpError):
    """The job, version, label, tensor or model does not exist."""


class JobNotFound(NotFound):
    """There is no job with this id."""


def job_not_found(job_id: str, *, deleted: bool = False) -> JobNotFound:
    """Return the error for a job that never was, or was ``deleted``."""
    why = " was deleted" if deleted else ": there is no such job"
    return JobNotFound(f"job {job_id}{why}; list the others: dbp jobs", job=job_id)


class VersionNotFound(NotFound):
    """The job has no such version or step, yet."""


class LabelNotFound(NotFound):
    """The job has no such label; ``metadata["known"]`` lists those it has."""


class TensorNotFound(NotFound):
    """A pattern matches no tensor; ``metadata["nearest"]`` lists up to five near names."""


class ModelNotFound(NotFound):
    """No job or label has the model's name."""


class AlreadyExists(DbpError):
    """The name is taken by something different."""


class WrongState(DbpError):
    """The job's present state forbids the request."""


class NotPublishedYet(WrongState):
    """The job has no parameters yet; waiting may help."""


class StaleParameters(WrongState):
    """The parameters lag the run by more steps than the caller allows."""


class UseStream(WrongState):
    """The parameters are too large for one message; a stream takes any size."""


class OutOfRange(DbpError):
    """A version or a resume token is no longer kept."""


class VersionEvicted(OutOfRange):
    """The version existed, but was deleted; ``metadata["oldest"]`` is the oldest left."""


class ResourceExhausted(DbpError):
    """A queue or a limit is full; trying again later may help."""


class DiskFull(ResourceExhausted):
    """The disk of the service, or its user's quota, is full; nothing was changed."""


class TooManyReaders(ResourceExhausted):
    """The reads of this caller, or of all callers, exceed a limit on concurrent reads."""


class DataLoss(DbpError):
    """Stored bytes do not match their digest; they are never served."""


class CorruptParameters(DataLoss):
    """The stored bytes of a version do not match their digest."""


class StateDamaged(DataLoss):
    """The service's database is damaged or lacks acknowledged changes; it can be rebuilt."""


class Unavailable(DbpError):
    """The service cannot be reached, or is shutting down."""


class Draining(Unavailable):
    """The service is shutting down; it may be back soon."""


class StateGone(Unavailable):
    """The service's state folder was deleted or replaced while it ran; it ends."""


class DeadlineExceeded(Unavailable):
    """The service did not answer in time, or sent no heartbeat: is its process stopped?"""


class ClientClosed(Unavailable):
    """The client has been closed and can send no request."""


class Unauthenticated(DbpError):
    """The caller did not prove who it is: a token or secret is missing, wrong or expired."""


class PermissionDenied(DbpError):
    """The caller's role, or the owner of the job, forbids the request."""


class Conflict(DbpError):
    """Another process, named in the text, uses the folder or the port."""


class Unsupported(DbpError):
    """This installation or service cannot do the request; the text gives an alternative."""


class UnknownMethod(Unsupported):
    """The service has no method of that name; the text names the one to use instead."""


class MissingDependency(Unsupported):
    """A program or package is missing; the text says how to install it."""


class TrainingFailed(DbpError):
    """A run ended badly: a non-finite loss, a lost rank, a launch that failed."""


# A comparison takes some 20 microseconds, and more for long names.
_MOST_COMPARED: Final = 1_000
_LONGEST_COMPARED: Final = 256


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ``", did you mean 'adam'?"`` for the closest known name, or ``""``.

    Of many names only the first 1,000 are compared, none of them longer than 256 characters.
    """
    compared = [other for other in known[:_MOST_COMPARED] if len(other) <= _LONGEST_COMPARED]
    close = difflib.get_close_matches(name[:64], compared, n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def alternatives(name: str, known: Sequence[str], title: str) -> str:
    """Return ``", did you mean 'adam'? known: adam, sgd"``, or ``"; known: adam, sgd"``."""
    hint = nearest(name, known)
    return f"{hint or ';'} {title}: {', '.join(known) or 'none'}"
