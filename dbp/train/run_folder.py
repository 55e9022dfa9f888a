"""A run's files: its spec, its figures, its final parameters, its verdict. Rank 0 writes them.

::

    spec.json               the resolved spec
    metrics.jsonl           one line at the end of each epoch, one at the end of the run
    checkpoints/            what a resumed run needs; see dbp.train.checkpoint
    parameters.safetensors  the parameters at the end
    result.json             how the run ended; written last: without it the run is unfinished

Each but the figures is visible only when complete: temporary file, fsync, rename, fsync of
the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, final

from dbp.errors import Conflict, InvalidInput
from dbp.job.snapshot import encode_header
from dbp.train.run_files import (
    CHECKPOINTS,
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
    write_verdict,
)
from dbp.train.run_lock import RunLock
from dbp.train.sink import Outcome, Progress, Snapshot, Started
from dbp.whole_file import make_folder, write_whole

__all__ = [
    "CHECKPOINTS",
    "METRICS",
    "OWN_FILES",
    "PARAMETERS",
    "RESULT",
    "SPEC",
    "LastWord",
    "RunFolder",
    "write_verdict",
]

logger = logging.getLogger("dbp")


@final
class RunFolder:
    """The sink that writes into a run folder, which it locks until ``close``."""

    def __init__(
        self,
        path: Path,
        lock: RunLock,
        *,
        document: Mapping[str, Any] | None = None,
        earlier: bool = False,
        resumes: bool = False,
    ) -> None:
        """Use ``create``, ``prepare`` or ``resume``.

        ``document``: the spec; None: the resumed run's is there. ``earlier``: the folder holds
        a run; its files stay as they are until this one starts. ``resumes``: it is continued.
        """
        self.path = path
        self._lock = lock
        self._document = document
        self._earlier = earlier
        self._resumes = resumes
        self._workers = 1
        self._metrics: io.FileIO | None = None
        if not earlier:
            self._begin()

    @classmethod
    def create(cls, parent: Path, name: str, document: Mapping[str, Any]) -> Self:
        """A new folder ``parent/name``, or ``name-2``, ``name-3``, ... where that exists.

        Processes that ask for the same name at the same moment get a folder each. Raises
        InvalidInput where none can be made.
        """
        with _writing(parent / name):
            path = make_new(parent / name)
        return cls.prepare(path, document)

    @classmethod
    def prepare(
        cls, path: Path, document: Mapping[str, Any], *, overwrite: bool = False
    ) -> Self:
        """Make and lock the folder, write the spec.

        Raises Conflict where the folder holds a run, finished or not, or other files; with
        ``overwrite`` only where a run is going on. Even then only a run's own files are
        replaced, and only when the new run starts. Raises InvalidInput where the folder
        cannot be made or written.
        """
        with _writing(path):
            if path.exists() and not path.is_dir():
                raise Conflict(f"{path}: is no folder; choose another one for the run")
            make_folder(path)
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
    def resume(cls, path: Path, document: Mapping[str, Any] | None = None) -> Self:
        """Lock the folder of a run that is resumed; its verdict stays until this one starts.

        ``document``: the spec from then on, where the run gets another length.
        Raises Conflict where the run is still going on, InvalidInput where the folder cannot
        be written.
        """
        with _writing(path):
            return cls(path, RunLock.take(path), document=document, earlier=True, resumes=True)

    def discard(self) -> None:
        """Remove what ``prepare`` made: the run will not begin. An earlier run stays."""
        if self._earlier:
            self.close()
            return
        self.close()
        for name in OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are in it
            self.path.rmdir()

    def started(self, started: Started) -> None:
        """Replace the files of an earlier run, or drop figures of steps to be taken again."""
        self._workers = started.world_size
        with _writing(self.path):
            if self._earlier:
                self._begin()
                self._earlier = False
            done = started.steps_done
            self._drop_lines_after(done - 1 if started.open_epoch else done)

    def rolled_back(self, step: int) -> None:
        """Drop the figures of undone steps; where the disk is full they stay."""
        try:
            self._drop_lines_after(step)
        except OSError as error:
            logger.warning("%s: figures of undone steps stay: %s", METRICS, error.strerror)

    def _drop_lines_after(self, step: int) -> None:
        """Keep the lines of epochs that ended by this step; raises OSError."""
        path = self.path / METRICS
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if ended_by(line, step)]
        if kept == lines[: len(kept)]:  # needs no space on the disk
            self._file.truncate(len(b"".join(kept)))
            return
        write_whole(path, kept)
        self._file.close()
        self._metrics = path.open("ab", buffering=0)

    def _begin(self) -> None:
        """Remove the verdict; for a new run remove all files and write the spec."""
        spec = self.path / f".{SPEC}.new"
        if self._document is not None:  # a full disk is found before anything is removed
            write_whole(spec, [json_text(self._document)])
        for name in (RESULT,) if self._resumes else OWN_FILES:  # the verdict first
            (self.path / name).unlink(missing_ok=True)
        if self._document is not None:
            spec.replace(self.path / SPEC)
        self._metrics = (self.path / METRICS).open("ab", buffering=0)

    @property
    def _file(self) -> io.FileIO:
        if self._metrics is None:
            raise AssertionError(f"{self.path}: the run has not started")
        return self._metrics

    def progress(self, progress: Progress) -> None:
        """A line at the end of each epoch; no full disk ends a run for its sake."""
        if not progress.epoch_end:
            return
        fields = {
            "step": progress.step,
            "epoch": progress.epoch,
            "workers": self._workers,
            "parameters_sha256": progress.parameters_sha256,
            "samples_per_second": progress.samples_per_second,
            **disturbances(progress),
            **progress.metrics,
        }
        self._line(fields)

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Write the final parameters."""
        if snapshot.final and not self._earlier:
            data = snapshot.vector.data.cast("B")
            header = encode_header(snapshot.manifest)
            write_whole(self.path / PARAMETERS, [header, data])
        return True

    def finished(self, outcome: Outcome) -> None:
        """Write the last line of figures, then the verdict.

        A run that ends before it starts leaves an earlier run's files as they were.
        """
        if self._earlier:
            self.close()
            return
        fields = {"step": outcome.step, "epoch": outcome.epoch, "status": outcome.status}
        best = None if outcome.best is None else dataclasses.asdict(outcome.best)
        self._line(
            {**fields, **outcome.metrics, "best": best, "best_restored": outcome.best_restored}
        )
        with contextlib.suppress(OSError):  # a failed write was reported before
            os.fsync(self._file.fileno())
        try:
            write_verdict(self.path, outcome)
        finally:
            self.close()

    def close(self) -> None:
        """Close the files and unlock; without a verdict the run counts as unfinished."""
        if self._metrics is not None:
            self._metrics.close()
        self._lock.release()

    def _line(self, fields: Mapping[str, Any]) -> None:
        """One line, whole or not at all: no full disk ends a run for its figures' sake."""
        line = (
            json.dumps({"time": round(time.time(), 3), **without_nan(fields)}).encode() + b"\n"
        )
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) < len(line):
                self._file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            reason = error.strerror
            logger.warning("step %s: its figures are lost: %s", fields["step"], reason)


@final
class LastWord:
    """What a rank other than 0 may write: the verdict, if it fails before any is there."""

    def __init__(self, path: Path, *, earlier: bool = False) -> None:
        """``earlier``: the folder may still hold a run that this one resumes or replaces."""
        self._path = path
        self._earlier = earlier

    def started(self, started: Started) -> None:
        """Rank 0's to write."""

    def progress(self, progress: Progress) -> None:
        """Rank 0's to write."""

    def rolled_back(self, step: int) -> None:
        """Rank 0's to write."""

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Rank 0's to write."""
        return True

    def finished(self, outcome: Outcome) -> None:
        """Write the verdict, unless there is one, or no folder on this host."""
        replaces = self._earlier and outcome.step == 0
        if self._path.is_dir() and not replaces and not (self._path / RESULT).exists():
            write_verdict(self._path, outcome)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise InvalidInput where a folder for a run cannot be written."""
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"{path}: no folder for a run can be written here: {error.strerror}"
        ) from error
