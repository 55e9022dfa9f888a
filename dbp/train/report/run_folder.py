"""Write the files of a run on rank 0: spec, metrics, final parameters, result.

::

    spec.json               the resolved spec
    metrics.jsonl           one line at the end of each epoch, one at the end of the run
    checkpoints/            the state for a resume; see dbp.train.state.checkpoint
    parameters.safetensors  the parameters at the end
    result.json             status and reason at the end; a run without it is unfinished

All but metrics.jsonl are written atomically: temporary file, fsync, rename, fsync of the
folder.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self, final

from dbp.errors import Conflict, InvalidInput, RunDiskFull
from dbp.job.job_json import record_to_json
from dbp.job.snapshot import encode_header
from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject, JsonValue
from dbp.quantities import count_text
from dbp.storage.atomic_file import make_folder, rename, sync_folder, write_file
from dbp.storage.full_disk import is_full
from dbp.train.report.run_files import (
    METRICS,
    OWN_FILES,
    PARAMETERS,
    RESULT,
    SPEC,
    check_free,
    disturbances,
    ended_by,
    holds_run,
    json_text,
    make_new,
    without_nan,
    write_outcome,
)
from dbp.train.report.run_lock import RunLock
from dbp.train.report.sink import ParameterSnapshot, Sink, Started
from dbp.train.report.space_wait import WriteFiles, at_once

logger = logging.getLogger("dbp")


@final
class RunFolder(Sink):
    """A sink that writes the files of a run folder; it locks the folder until ``close``."""

    def __init__(
        self,
        path: Path,
        lock: RunLock,
        *,
        document: JsonObject | None = None,
        earlier: bool = False,
        resumes: bool = False,
    ) -> None:
        """Use ``create``, ``prepare`` or ``resume`` instead.

        Args:
            path: The folder.
            lock: Its lock.
            document: The spec to write; None if the spec of the resumed run stays.
            earlier: The folder contains a run, whose files stay until this run starts.
            resumes: This run continues the earlier one.
        """
        self.path = path
        self._lock = lock
        self._document = document
        self._earlier = earlier
        self._resumes = resumes
        self._workers = 1
        self._metrics: io.FileIO | None = None
        self._lost_lines = 0  # of metrics.jsonl, since one was written
        self.write: WriteFiles = at_once  # of the files that the run cannot do without
        if not earlier:
            self._begin()

    @classmethod
    def create(cls, parent: Path, name: str, document: JsonObject) -> Self:
        """Make the folder ``parent/name``, or ``name-2``, ``name-3``, ... if that exists.

        Processes that use the same name at the same time get different folders. Raises
        InvalidInput if no folder can be made.
        """
        with _writing(parent / name):
            path = make_new(parent / name)
        return cls.prepare(path, document)

    @classmethod
    def prepare(
        cls,
        path: Path,
        document: JsonObject,
        *,
        overwrite: bool = False,
        below: Path | None = None,
    ) -> Self:
        """Make and lock the folder, and write the spec. ``below``: as for ``make_folder``.

        Raises Conflict if the folder contains a run, finished or not, or other files; with
        ``overwrite`` only if a run in it is still active. Even then only a run's own files are
        replaced, and only when the new run starts. Raises InvalidInput if the folder cannot be
        made or written.
        """
        with _writing(path):
            if path.exists() and not path.is_dir():
                raise Conflict(f"{path}: is not a folder; choose another one for the run")
            make_folder(path, below=below)
            lock = RunLock.take(path)
            try:
                earlier = holds_run(path)
                if not overwrite:
                    check_free(path, earlier=earlier)
                return cls(path, lock, document=document, earlier=earlier)
            except BaseException:
                lock.release()
                raise

    @classmethod
    def resume(cls, path: Path, document: JsonObject | None = None) -> Self:
        """Lock the folder of a run that is resumed; result.json stays until this run starts.

        ``document`` replaces the spec if the run gets another length. Raises Conflict if the
        run is still active, InvalidInput if the folder cannot be written.
        """
        with _writing(path):
            return cls(path, RunLock.take(path), document=document, earlier=True, resumes=True)

    def discard(self) -> None:
        """Remove the files that ``prepare`` made, since the run will not start.

        The files of an earlier run stay.
        """
        if self._earlier:
            self.close()
            return
        self.close()
        for name in OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder is not empty
            self.path.rmdir()

    def started(self, started: Started) -> None:
        """Replace the files of an earlier run; on a resume drop lines of later steps."""
        self._workers = started.world_size
        done = started.steps_done

        def begin() -> None:
            if self._earlier:
                self._begin()
                self._earlier = False
            self._drop_lines_after(done - 1 if started.open_epoch else done)

        with _writing(self.path):
            self.write(begin)

    def rolled_back(self, step: int) -> None:
        """Drop the lines of undone steps; if the disk is full, they stay."""
        try:
            self._drop_lines_after(step)
        except OSError as error:
            logger.warning("%s: lines of undone steps stay: %s", METRICS, error.strerror)

    def _drop_lines_after(self, step: int) -> None:
        """Keep the lines of epochs that ended by this step; raises OSError."""
        path = self.path / METRICS
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if ended_by(line, step)]
        if kept == lines[: len(kept)]:  # truncating needs no space on the disk
            self._file.truncate(len(b"".join(kept)))
            return
        write_file(path, kept)
        self._file.close()
        self._metrics = path.open("ab", buffering=0)

    def _begin(self) -> None:
        """Remove result.json; for a new run remove all files and write the spec."""
        spec = self.path / f".{SPEC}.new"
        if self._document is not None:  # fails on a full disk before anything is removed
            write_file(spec, [json_text(self._document)])
        for name in (RESULT,) if self._resumes else OWN_FILES:  # result.json first
            (self.path / name).unlink(missing_ok=True)
        sync_folder(self.path)  # a power cut must not bring back the earlier result
        if self._document is not None:
            rename(spec, self.path / SPEC)
        self._metrics = (self.path / METRICS).open("ab", buffering=0)

    @property
    def _file(self) -> io.FileIO:
        if self._metrics is None:
            raise AssertionError(f"{self.path}: the run has not started")
        return self._metrics

    def progress(self, progress: ProgressReport) -> None:
        """Write a line at the end of each epoch; a full disk does not end the run."""
        if not progress.epoch_end:
            return
        fields: dict[str, JsonValue] = {
            "step": progress.step,
            "epoch": progress.epoch,
            "workers": self._workers,
            "parameters_sha256": progress.parameters_sha256,
            "samples_per_second": progress.samples_per_second,
            **disturbances(progress),
            **progress.metrics,
        }
        self._line(fields)

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        if snapshot.final and not self._earlier:
            data = snapshot.vector.data.cast("B")
            header = encode_header(snapshot.manifest)
            self.write(lambda: write_file(self.path / PARAMETERS, [header, data]))
        return True

    def finished(self, outcome: RunOutcome) -> None:
        """Write the last line of metrics.jsonl, then result.json.

        A run that ends before it starts does not change an earlier run's files.
        """
        if self._earlier:
            self.close()
            return
        best = None if outcome.best is None else record_to_json(outcome.best)
        self._line(
            {
                "step": outcome.step,
                "epoch": outcome.epoch,
                "status": outcome.status,
                **outcome.metrics,
                "best": best,
                "best_restored": outcome.best_restored,
            }
        )
        with contextlib.suppress(OSError):  # a failed write has been logged
            os.fsync(self._file.fileno())
        try:
            self.write(lambda: write_outcome(self.path, outcome))
        finally:
            self.close()

    def close(self) -> None:
        """Close the files and unlock the folder; without result.json the run is unfinished."""
        if self._metrics is not None:
            self._metrics.close()
        self._lock.release()

    def _line(self, fields: JsonObject) -> None:
        """Write a line whole or not at all; a full disk does not end the run."""
        line = (
            json.dumps({"time": round(time.time(), 3), **without_nan(fields)}).encode() + b"\n"
        )
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) < len(line):
                self._file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._lost_lines += 1
            if self._lost_lines == 1:
                logger.warning(
                    "step %s: its line in metrics.jsonl is lost: %s; training continues",
                    fields["step"],
                    error.strerror,
                )
        else:
            if self._lost_lines:
                lines = count_text(self._lost_lines, "line")
                logger.warning("metrics.jsonl is written again; it lacks %s", lines)
            self._lost_lines = 0


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an OSError in the block into InvalidInput, or RunDiskFull, with the path."""
    try:
        yield
    except OSError as error:
        kind = RunDiskFull if is_full(error) else InvalidInput
        raise kind(f"{path}: cannot write a run folder here: {error.strerror}") from error
