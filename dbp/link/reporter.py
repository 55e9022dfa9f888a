"""Report rank 0's progress, parameters and outcome to the link; receive requests from it.

gRPC runs in a process of its own, the link (``dbp.link.process``), started by exec before MPI
is initialized: ranks have no gRPC threads or locks. Reports and requests are JSON lines in two
pipes; parameters are in two slots of shared memory, so publishing costs the training loop one
memory copy. Only ``join``, ``close`` and the last versions wait for the link: if the link is
slow, progress is dropped; if it has ended, nothing is sent and training continues.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import IO, Final, Self, cast, final

from dbp.errors import InvalidInput, Unavailable
from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject
from dbp.link.messages import (
    TO_RANK,
    Configuration,
    FilledSlot,
    FreedSlot,
    LaunchedRun,
    NewRun,
    Refused,
    Registered,
    RunRequest,
    ToLink,
    ToRank,
    TrainingStarted,
    decode,
    encode,
)
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

    def __init__(self, config: Configuration) -> None:
        """Start the link with this configuration (see ``start`` and ``join``)."""
        launched = isinstance(config, LaunchedRun)
        self.job = config.job if isinstance(config, LaunchedRun) else ""
        self._memory_fd = _anonymous_file()
        self._memory: mmap.mmap | None = None
        self._without_memory = False
        self._free_slots = set(range(SLOTS))
        self._backlog = bytearray()
        self._inbox = bytearray()
        self._stop = False
        self._publish = False
        self._alive = True
        self._patience = LAUNCHED_PATIENCE_SECONDS if launched else BY_HAND_PATIENCE_SECONDS
        self._link = subprocess.Popen(
            # -P: nothing in the user's own folder takes the place of a library.
            [sys.executable, "-P", "-m", "dbp.link.process", str(self._memory_fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._memory_fd,),
            start_new_session=True,  # a Ctrl-C meant for the ranks must not end the link
            bufsize=0,
        )
        self._up = cast("IO[bytes]", self._link.stdin).fileno()
        self._down = cast("IO[bytes]", self._link.stdout).fileno()
        os.set_blocking(self._up, False)
        os.set_blocking(self._down, False)
        self._send(config)

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
            )
        )

    @classmethod
    def join(cls, address: str, document: JsonObject, workers: int) -> Self:
        """Register a run started by hand as a job; raises the errors of service and network."""
        request_id = str(uuid.uuid4())
        reporter = cls(NewRun(address, document, workers, request_id, speaks_of_flags()))
        try:
            reporter.job = reporter._await_registration(address)
        except BaseException:
            reporter.close(0.0)
            raise
        return reporter

    def started(self, started: Started) -> None:
        """Send the start of training and its length."""
        self._send(TrainingStarted(started.world_size, started.total_steps))

    def progress(self, progress: ProgressReport) -> None:
        """Send the newest progress; it is dropped while the link is slow."""
        limit = MAX_EPOCHS_BACKLOG_BYTES if progress.epoch_end else MAX_BACKLOG_BYTES
        self._send(progress, limit)

    def rolled_back(self, step: int) -> None:
        """Nothing to send: later reports replace those of the undone steps."""

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        """Copy the parameters into a free slot; False if there is none."""
        self._receive()
        if snapshot.last:
            self._await_slot(self._patience)
        if not self._alive:
            return True  # the link has ended: do not retry
        if not self._free_slots:
            return False
        size = snapshot.manifest.size_bytes
        memory = self._reserved(SLOTS * size)
        if memory is None:
            return True  # nor here
        slot = self._free_slots.pop()
        memory[slot * size : (slot + 1) * size] = snapshot.vector.data.cast("B")
        self._send(
            FilledSlot(slot, snapshot.step, snapshot.manifest, snapshot.final, snapshot.best)
        )
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
        self._send(outcome)

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
        deadline = time.monotonic() + min(timeout, self._patience)
        while self._alive and self._backlog and time.monotonic() < deadline:
            self._flush()
            time.sleep(0.005)
        cast("IO[bytes]", self._link.stdin).close()
        self._alive = False
        try:
            self._link.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._link.kill()
            self._link.wait()
        cast("IO[bytes]", self._link.stdout).close()
        if self._memory is not None:
            self._memory.close()
        os.close(self._memory_fd)

    def _send(self, message: ToLink, limit: int | None = None) -> None:
        """Write a message; drop it if more than ``limit`` bytes would wait."""
        if not self._alive or (limit is not None and len(self._backlog) > limit):
            return
        self._backlog += encode(message)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._backlog:
                written = os.write(self._up, self._backlog)
                del self._backlog[:written]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._note_loss()

    def _receive(self) -> None:
        self._flush()
        if not self._alive:
            return
        try:
            data = os.read(self._down, 65536)
        except BlockingIOError:
            return
        if not data:
            self._note_loss()
            return
        self._inbox += data
        *lines, rest = bytes(self._inbox).split(b"\n")
        self._inbox = bytearray(rest)
        try:
            messages = [decode(line, TO_RANK) for line in lines]
        except ValueError as error:
            log.warning("the link sent a line that is no message: %s", error)
            self._note_loss()
            return
        for message in messages:
            self._handle(message)

    def _handle(self, message: ToRank) -> None:
        match message:
            case RunRequest():
                self._stop |= message.stop
                self._publish |= message.publish
            case FreedSlot():
                self._free_slots.add(message.slot)
            case Registered():
                self.job = message.job
            case Refused():
                raise (Unavailable if message.unavailable else InvalidInput)(message.message)

    def _note_loss(self) -> None:
        self._alive = False
        self._backlog.clear()
        log.warning("the link to the service ended early; training continues without it")

    def _await(self, seconds: float) -> None:
        """Wait for one message of the link, at most ``seconds``."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._down, selectors.EVENT_READ)
            selector.select(seconds)
        self._receive()

    def _await_slot(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._alive and not self._free_slots and time.monotonic() < deadline:
            self._await(deadline - time.monotonic())

    def _await_registration(self, address: str) -> str:
        deadline = time.monotonic() + JOIN_SECONDS
        while self._alive and not self.job:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            self._await(remaining)
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
