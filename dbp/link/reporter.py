"""Report rank 0's progress, parameters and outcome to the link; receive requests from it.

gRPC runs in a process of its own, the link (``dbp.link.process``): ranks have no gRPC threads
or locks. Reports and requests are JSON lines in two pipes; parameters are in two slots of
shared memory, so publishing costs the training loop one memory copy. Only ``join``, ``close``
and the last versions wait for the link: if the link is slow, progress is dropped; if it ends or
stops, another one delivers the messages that the service has not stored.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import mmap
import os
import secrets
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self, final

from dbp.errors import InvalidInput, Unavailable
from dbp.heartbeat.slots import LINK, make_heartbeat
from dbp.job.retry_terms import stall_seconds
from dbp.job.state import ProgressReport, RunOutcome, before_first_step
from dbp.json_value import JsonObject
from dbp.link.keeper import LinkKeeper
from dbp.link.left_best import LeftBest
from dbp.link.messages import (
    Alive,
    AttemptOver,
    FilledSlot,
    FreedSlot,
    LaunchedRun,
    NewRun,
    Refused,
    Registered,
    RegisteredRun,
    RunRequest,
    StoredReports,
    ToRank,
    TrainingStarted,
)
from dbp.link.undelivered import Undelivered
from dbp.option_names import speaks_of_flags
from dbp.train.report.sink import Command, ParameterSnapshot, Started

SLOTS: Final = 2
# Bytes that wait while the link hangs: plain progress is dropped first, then epochs' ends.
MAX_BACKLOG_BYTES: Final = 64 * 1024
MAX_EPOCHS_BACKLOG_BYTES: Final = 1 << 20
JOIN_SECONDS: Final = 15.0
# How long the end of a run may wait for the service. A service finds the outcome of a run that
# it launched in the folder of the run later; that of a run started by hand has only the link.
LAUNCHED_PATIENCE_SECONDS: Final = 5.0
BY_HAND_PATIENCE_SECONDS: Final = 30.0

log = logging.getLogger("dbp.rpc")


@final
class Reporter:
    """Sink and Control of rank 0 under a service; communicates with the link only."""

    def __init__(
        self,
        config: LaunchedRun | NewRun,
        *,
        stall_seconds: float,
        best: Path | None = None,
    ) -> None:
        """Start the link with this configuration (see ``start`` and ``join``).

        Args:
            config: Which run, and how to reach its service.
            stall_seconds: Time after which a link that reads nothing is replaced.
            best: File for the best parameters if they cannot be delivered.
        """
        self._best = LeftBest(best)
        launched = isinstance(config, LaunchedRun)
        self.job = config.job if isinstance(config, LaunchedRun) else ""
        self._config = config
        self._memory_fd = _anonymous_file()
        self._memory: mmap.mmap | None = None
        self._without_memory = False
        self._free_slots = set(range(SLOTS))
        self._stop = False
        self._publish = False
        self._newest: ProgressReport | None = None
        self._patience = LAUNCHED_PATIENCE_SECONDS if launched else BY_HAND_PATIENCE_SECONDS
        self._undelivered = Undelivered()
        self._keeper = LinkKeeper(
            config,
            self._memory_fd,
            self._undelivered,
            stall_seconds=stall_seconds,
            # A service that launched the run sees from that whether the link is stopped.
            note_start=lambda pid: make_heartbeat(os.environ, LINK, pid=pid),
        )

    @classmethod
    def start(cls, attempt_dir: Path) -> Self:
        """Return the reporter of an attempt that a service launched, from ``launch.json`` in
        its folder.
        """
        launch = json.loads((attempt_dir / "launch.json").read_text())
        return cls(
            LaunchedRun(
                service_file=launch["service_file"],
                job=launch["job"],
                attempt=launch["attempt"],
                workers=launch["workers"],
                secret=launch["secret"],
                speaks_of_flags=speaks_of_flags(),
            ),
            stall_seconds=stall_seconds(json.loads(Path(launch["spec"]).read_text())),
            best=Path(launch["best"]),
        )

    @classmethod
    def join(cls, address: str, document: JsonObject, workers: int) -> Self:
        """Register a run started by hand as a job; raises the errors of service and network."""
        request_id = str(uuid.uuid4())
        run = NewRun(address, document, workers, request_id, speaks_of_flags())
        reporter = cls(run, stall_seconds=stall_seconds(document))
        try:
            reporter.job = reporter._await_registration(address)
        except BaseException:
            reporter.close(0.0)
            raise
        return reporter

    def started(self, started: Started) -> None:
        """Send the start of training and its length."""
        message = TrainingStarted(started.world_size, started.total_steps)
        self._keeper.send(self._undelivered.start(message))

    def note_disk_full(self, text: str) -> None:
        """Send the newest report again, with a text on the file that waits, "" at the end.

        Before the first one, send a report of step 0.
        """
        newest = self._newest or before_first_step(time.time())
        report = dataclasses.replace(newest, disk_full=text, epoch_end=False, window=None)
        self._send(report, MAX_BACKLOG_BYTES)

    def progress(self, progress: ProgressReport) -> None:
        """Send the newest progress; while the link is slow, a later report has its steps."""
        self._newest = progress
        self._send(
            progress, MAX_EPOCHS_BACKLOG_BYTES if progress.epoch_end else MAX_BACKLOG_BYTES
        )

    def _send(self, progress: ProgressReport, limit: int) -> None:
        if not self._keeper.send(self._undelivered.report(progress), limit):
            self._undelivered.hold()

    def rolled_back(self, step: int) -> None:
        """Send nothing: later reports replace those of the undone steps."""
        self._best.roll_back(step)

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        """Copy the parameters into a free slot; False if there is none."""
        self._receive()
        if snapshot.saved_only:
            return True
        if snapshot.last:
            self._await_slot(self._patience)
        if not self._free_slots or self._best.precedes(snapshot):
            self._best.refuse(snapshot)
            return False
        size = snapshot.manifest.size_bytes
        memory = self._reserved(SLOTS * size)
        if memory is None:
            return True  # do not retry
        slot = self._free_slots.pop()
        memory[slot * size : (slot + 1) * size] = snapshot.vector.data.cast("B")
        filled = FilledSlot(
            slot, snapshot.step, snapshot.manifest, snapshot.final, snapshot.best
        )
        self._best.fill(filled)
        self._keeper.send(self._undelivered.fill(filled))
        return True

    def _reserved(self, size: int) -> mmap.mmap | None:
        """Map memory for all slots; without it the run reports but publishes nothing."""
        if self._memory is None and not self._without_memory:
            try:
                os.ftruncate(self._memory_fd, size)
                # All pages at once, or the first versions would fault them in one by one.
                flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
                self._memory = mmap.mmap(self._memory_fd, size, flags=flags)
            except OSError as error:
                self._without_memory = True
                log.warning("no parameters are published: %d bytes: %s", size, error.strerror)
        return self._memory

    def finished(self, outcome: RunOutcome) -> None:
        """Send the outcome of the run."""
        self._keeper.send(self._undelivered.end(outcome))

    def poll(self) -> Command:
        """Return the service's requests so far; costs one system call."""
        self._receive()
        command = Command.NONE
        if self._stop:
            command |= Command.STOP
        if self._publish:
            command |= Command.PUBLISH
            self._publish = False
        return command

    def close(self, timeout: float = 10.0) -> None:
        """Give the link at most ``timeout`` seconds to deliver what it has, then end it."""
        self._keeper.close(min(timeout, self._patience), self._handle_all)
        self._best.leave(self._memory)
        if self._memory is not None:
            self._memory.close()
        os.close(self._memory_fd)

    def _receive(self) -> None:
        self._handle_all(self._keeper.receive())

    def _handle_all(self, messages: Sequence[ToRank]) -> None:
        for message in messages:
            self._handle(message)

    def _handle(self, message: ToRank) -> None:
        match message:
            case RunRequest():
                self._stop |= message.stop
                self._publish |= message.publish
            case FreedSlot():
                self._undelivered.freed(message.slot)
                self._best.freed(message.slot)
                self._free_slots.add(message.slot)
            case StoredReports():
                self._undelivered.stored(message.sequence)
            case AttemptOver():
                self._undelivered.refuse_reports()
            case Registered():
                self._note_registration(message)
            case Refused():
                raise (Unavailable if message.unavailable else InvalidInput)(message.message)
            case Alive():
                pass

    def _note_registration(self, registered: Registered) -> None:
        """Give later links the job in place of the request for one."""
        self.job = registered.job
        if isinstance(self._config, NewRun):
            self._keeper.config = RegisteredRun(
                address=self._config.address,
                job=registered.job,
                workers=self._config.workers,
                secret=registered.secret,
                speaks_of_flags=self._config.speaks_of_flags,
            )

    def _await(self, seconds: float) -> None:
        """Wait for messages of the link, at most ``seconds``."""
        self._keeper.wait(seconds)
        self._receive()

    def _await_slot(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._free_slots and (left := deadline - time.monotonic()) > 0:
            self._await(left)

    def _await_registration(self, address: str) -> str:
        deadline = time.monotonic() + JOIN_SECONDS
        while not self.job and (left := deadline - time.monotonic()) > 0:
            self._await(left)
        if not self.job and self._keeper.ends:
            raise Unavailable(
                f"{address}: the link to the service keeps ending; see its errors"
            )
        if not self.job:
            raise Unavailable(
                f"{address}: no answer from the service; start it with `dbp serve`"
            )
        return self.job


def _anonymous_file() -> int:
    """Return a file without a name: memory where possible, else an unlinked file."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(f"dbp-parameters-{secrets.token_hex(8)}")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
