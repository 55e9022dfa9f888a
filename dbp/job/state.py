"""A job and all that is known of it: state, failure, conditions, progress, versions. No I/O.

``dbp.job.transitions`` decides which event may follow which state.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from dbp.job.best import BestEpoch
from dbp.job.failure import Condition, Failure
from dbp.job.step_window import StepWindow
from dbp.json_value import JsonObject

# Metadata of fields of a report that stay in the run: they are never sent to the service.
LOCAL: Final = MappingProxyType({"local": True})


class State(enum.StrEnum):
    """States of a job, from QUEUED to a terminal one."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended: only a retry changes the state."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    @property
    def launched(self) -> bool:
        """Whether an attempt runs, or is being started or ended."""
        return self in (State.STARTING, State.RUNNING, State.PAUSING, State.CANCELLING)

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self in (State.PAUSING, State.CANCELLING)


class EventKind(enum.StrEnum):
    """Durable changes of a job; the values are those of ``JobEvent.kind``."""

    CREATED = "created"
    STARTED = "started"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARAMETERS_PUBLISHED = "parameters_published"
    LABEL_MOVED = "label_moved"
    VERSION_PINNED = "version_pinned"
    VERSION_UNPINNED = "version_unpinned"
    REQUEUED = "requeued"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMED = "resumed"
    RETRIED = "retried"
    DELETED = "deleted"
    CHECKPOINTS_DAMAGED = "checkpoints_damaged"


class StreamEndReason(enum.StrEnum):
    """Why a stream of the service ended."""

    JOB_ENDED = "job_ended"
    DRAINING = "draining"
    END_OF_LOG = "end_of_log"


@dataclass(frozen=True)
class Version:
    """One published state of the parameters; fields as in the proto's ``ParameterVersion``."""

    version: int
    step: int
    attempt: int
    digest: str
    size_bytes: int
    publish_time: float
    final: bool = False
    previous_digest: str = ""
    spec_digest: str = ""
    rollbacks: int = 0


@dataclass(frozen=True)
class VersionEntry:
    """A version in a job's history: whether its bytes are kept, and by which labels or pin.

    ``left_by``: labels that left it last, so that an undo moves them back to it.
    """

    version: Version
    kept: bool
    pinned: bool
    labels: tuple[str, ...]
    left_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelMove:
    """A label moved to a version (0: it was removed), at a Unix time, from ``previous``.

    ``previous``: the version that it left; 0 if it was at none.
    """

    label: str
    version: int
    time: float
    previous: int = 0


@dataclass(frozen=True)
class ProgressReport:
    """The progress of a run after a step.

    The last five fields stay in the run's own process: the service has their defaults.

    Attributes:
        step: Number of the step, from 1; 0 in a report that says only what the run waits for
            before its first step.
        total_steps: Planned number of steps.
        epoch: Number of the epoch, from 1.
        loss: Mean loss of the step's mini-batch; NaN if it was skipped.
        metrics: Newest values, such as training_loss, validation_accuracy, learning_rate.
        samples_per_second: Training speed.
        eta_seconds: Estimated remaining time; None while unknown.
        observe_time: Unix time of the report.
        epoch_end: Marks the report at the end of an epoch, which is never dropped.
        skipped: Number of mini-batches skipped since the start of the run.
        disk_full: Sentence on the file that does not fit on a full disk, else "".
        window: Losses of the steps since the report before; None if there is no new step.
        skipped_in_epoch: The same in this epoch.
        parameters_sha256: Digest of the parameters at the end of an epoch, else "".
        rollbacks: Number of roll-backs so far.
        rolled_back_to: Step that the last roll-back returned to.
        evaluation: Figures of an evaluation just before this report; empty if there was none.
    """

    step: int
    total_steps: int
    epoch: int
    loss: float
    metrics: Mapping[str, float]
    samples_per_second: float
    eta_seconds: float | None
    observe_time: float
    epoch_end: bool = False
    skipped: int = 0
    disk_full: str = ""
    window: StepWindow | None = None
    skipped_in_epoch: int = field(default=0, metadata=LOCAL)
    parameters_sha256: str = field(default="", metadata=LOCAL)
    rollbacks: int = field(default=0, metadata=LOCAL)
    rolled_back_to: int = field(default=0, metadata=LOCAL)
    evaluation: Mapping[str, float] = field(default_factory=dict, metadata=LOCAL)


def before_first_step(observe_time: float) -> ProgressReport:
    """Return the report of a run that has computed nothing yet."""
    return ProgressReport(0, 0, 0, math.nan, {}, 0.0, None, observe_time)


@dataclass(frozen=True)
class RunOutcome:
    """The end of a run: ``succeeded``, ``stopped`` (on request) or ``failed``.

    ``epoch``, ``seconds``, ``skipped`` and ``resumed_from`` stay in the run and its folder: a
    report to the service has their defaults.

    Attributes:
        status: One of the three above.
        reason: One of ``epochs``, ``steps``, ``converged``, ``target``, ``time``,
            ``stop_requested``, ``NON_FINITE``, ``NOTHING_APPLIED``, ...
        step: Last step.
        epoch: Epoch of the last step.
        metrics: Metrics of the published parameters, which are those of the epoch ``best`` if
            ``best_restored``, otherwise those after ``step``.
        message: Text for the user.
        seconds: Time of this process.
        skipped: Number of mini-batches skipped because of a non-finite loss or gradient.
        best: The best epoch, if any.
        best_restored: Whether the run ended with the parameters of ``best``.
        resumed_from: Number of steps of earlier processes.
        rank: The rank that failed; None if all failed alike, or none did.
        asked: Whether it stopped on request, though it failed to write its files.
    """

    status: str
    reason: str
    step: int = 0
    epoch: int = field(default=0, metadata=LOCAL)
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    seconds: float = field(default=0.0, metadata=LOCAL)
    skipped: int = field(default=0, metadata=LOCAL)
    best: BestEpoch | None = None
    best_restored: bool = False
    resumed_from: int = field(default=0, metadata=LOCAL)
    rank: int | None = None
    asked: bool = False


@dataclass(frozen=True)
class Job:
    """A job as the service stores it: times in Unix seconds, ``spec`` the resolved document.

    Attributes:
        attempt: Number of launches; the newest attempt has this number.
        failure: Why the job failed, once it has.
        notes: Sentences on its spec and data that the user should read before training, and
            on damaged checkpoints that an attempt has passed over.
        end_reason: Of the run's outcome; "" before the end and where ``failure`` is set.
        previous_failure: Why the attempt before the newest one failed; while the job is
            queued, why the newest one did. None once the job has ended.
        failures: Attempts in a row that failed without a new checkpoint.
        exceptions: Python exceptions of earlier attempts with their steps, as text.
        conditions: By kind; not stored.
        report_time: When a rank last reported a phase, a step or progress; not stored.
        checkpoint_step: Step of the newest valid checkpoint when the newest attempt ended.
        retry_time: Earliest time of the next launch, after a failure.
        unchecked: Whether its data are checked while it waits in the queue, since they are
            large.
        queue_sequence: Of the event by which a user queued the job last.
        owner: Name of the user who submitted it; "" for the service's own user.
        data_digest: Digest of the identities of the data files that were checked; "" if none
            were. See ``dbp.data_access``.
        confined: Whether the job may read files only below the operator's data roots.
        version_floor: New versions have greater numbers: those up to it may have been published
            between a backup and its restoring, with other contents.
    """

    id: str
    spec: JsonObject
    spec_digest: str
    workers: int
    state: State
    create_time: float
    attempt: int = 0
    start_time: float | None = None
    end_time: float | None = None
    failure: Failure | None = None
    latest_parameters: Version | None = None
    progress: ProgressReport | None = None
    sequence: int = 0
    attached: bool = False
    host: str = ""
    waiting_reason: str = ""
    best: BestEpoch | None = None
    best_restored: bool = False
    notes: tuple[str, ...] = ()
    end_reason: str = ""
    previous_failure: Failure | None = None
    failures: int = 0
    exceptions: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    report_time: float | None = None
    checkpoint_step: int = 0
    retry_time: float | None = None
    queue_sequence: int = 0
    owner: str = ""
    data_digest: str = ""
    unchecked: bool = False
    confined: bool = False
    version_floor: int = 0


@dataclass(frozen=True)
class Event:
    """An event of a job at a Unix time; ``change`` holds the fields that it sets.

    ``label``: the move of LABEL_MOVED. ``version``: the number that is pinned or unpinned.
    """

    kind: EventKind
    time: float
    change: Mapping[str, Any] = field(default_factory=dict)
    label: LabelMove | None = None
    version: int = 0
