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
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self, final

from dbp.errors import Conflict, InvalidInput
from dbp.job.snapshot import encode_header
from dbp.train.sink import Outcome, Progress, Snapshot, Started
from dbp.whole_file import write_whole

SPEC: Final = "spec.json"
METRICS: Final = "metrics.jsonl"
PARAMETERS: Final = "parameters.safetensors"
RESULT: Final = "result.json"
CHECKPOINTS: Final = "checkpoints"
OWN_FILES: Final = (RESULT, PARAMETERS, METRICS, SPEC)

logger = logging.getLogger("dbp")


@final
class RunFolder:
    """The sink that writes into a run folder."""

    def __init__(self, path: Path) -> None:
        """``path`` must be prepared; see ``prepare``."""
        self.path = path
        self._workers = 1
        self._metrics = (path / METRICS).open("ab", buffering=0)

    @classmethod
    def prepare(
        cls, path: Path, document: Mapping[str, Any], *, overwrite: bool = False
    ) -> Self:
        """Make the folder and write the spec; raises Conflict where other files would suffer.

        Raises InvalidInput where it cannot be made or written. The folder of a finished run
        is used again; anything else in it only if ``overwrite``, and even then only a run's
        own files are removed.
        """
        try:
            if not overwrite:
                _check_free(path)
            path.mkdir(parents=True, exist_ok=True)
            for name in OWN_FILES:  # the verdict first: without it the rest counts for nothing
                (path / name).unlink(missing_ok=True)
            write_whole(path / SPEC, [_text(document)])
            return cls(path)
        except OSError as error:
            raise InvalidInput(
                f"{path}: no folder for a run can be written here: {error.strerror}"
            ) from error

    @classmethod
    def resume(cls, path: Path) -> Self:
        """The folder of a run that goes on; its verdict so far is taken back."""
        try:
            (path / RESULT).unlink(missing_ok=True)
            return cls(path)
        except OSError as error:
            raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error

    def discard(self) -> None:
        """Take back what ``prepare`` made: the run will not begin."""
        self._metrics.close()
        for name in OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are in it
            self.path.rmdir()

    def started(self, started: Started) -> None:
        """Drop the figures of steps that a resumed run takes again."""
        self._workers = started.world_size
        lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _is_kept(line, started.steps_done)]
        if kept != lines:
            self._metrics.close()
            text = "".join(f"{line}\n" for line in kept)
            write_whole(self.path / METRICS, [text.encode()])
            self._metrics = (self.path / METRICS).open("ab", buffering=0)

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
            **progress.metrics,
        }
        self._line(fields)

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Write the final parameters."""
        if snapshot.final:
            data = snapshot.vector.data.cast("B")
            header = encode_header(snapshot.manifest)
            write_whole(self.path / PARAMETERS, [header, data])
        return True

    def finished(self, outcome: Outcome) -> None:
        """The last line of figures, then the verdict."""
        fields = {"step": outcome.step, "epoch": outcome.epoch, "status": outcome.status}
        self._line({**fields, **outcome.metrics})
        with contextlib.suppress(OSError):  # what could not be written has been told
            os.fsync(self._metrics.fileno())
        self.close()
        write_verdict(self.path, outcome)

    def close(self) -> None:
        """Close the figures' file; without a verdict the folder says: unfinished."""
        self._metrics.close()

    def _line(self, fields: Mapping[str, Any]) -> None:
        """One line, whole or not at all: no full disk ends a run for its figures' sake."""
        line = json.dumps({"time": round(time.time(), 3), **_finite(fields)}).encode() + b"\n"
        size = os.fstat(self._metrics.fileno()).st_size
        try:
            if self._metrics.write(line) < len(line):
                self._metrics.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            reason = error.strerror
            logger.warning("step %s: its figures are lost: %s", fields["step"], reason)


@final
class LastWord:
    """What a rank other than 0 may write: the verdict, if it fails before any is there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def started(self, started: Started) -> None:
        """Rank 0's to write."""

    def progress(self, progress: Progress) -> None:
        """Rank 0's to write."""

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Rank 0's to write."""
        return True

    def finished(self, outcome: Outcome) -> None:
        """Write the verdict, unless there is one, or no folder on this host."""
        if self._path.is_dir() and not (self._path / RESULT).exists():
            write_verdict(self._path, outcome)


def check_resumable(path: Path) -> None:
    """Raise InvalidInput unless the folder holds a run that has not come to its end."""
    if not (path / SPEC).is_file():
        raise InvalidInput(f"{path}: holds no run ({SPEC} is missing)")
    try:
        status = json.loads((path / RESULT).read_text())["status"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path / RESULT}: unreadable: {error}") from error
    if status == "succeeded":
        raise InvalidInput(f"{path}: this run has come to its end; nothing is left to do")


def write_verdict(folder: Path, outcome: Outcome) -> None:
    """Write ``result.json``, from whichever rank can still do so."""
    fields = dataclasses.asdict(outcome)
    fields["metrics"] = {n: v for n, v in outcome.metrics.items() if math.isfinite(v)}
    write_whole(folder / RESULT, [_text(fields)])


def _is_kept(line: str, step: int) -> bool:
    """Whether a line of figures tells of an epoch that ended by this step."""
    try:
        figures = json.loads(line)
        return "status" not in figures and int(figures["step"]) <= step
    except (ValueError, KeyError, TypeError):  # cut off when its process died
        return False


def _check_free(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise Conflict(f"{path}: is no folder; choose another one for the run")
    names = {entry.name for entry in path.iterdir()}
    foreign = sorted(names - {*OWN_FILES, CHECKPOINTS})
    if foreign:
        raise Conflict(
            f"{path}: holds other files ({', '.join(foreign[:3])}); choose an empty folder"
        )
    if names and RESULT not in names:
        raise Conflict(
            f"{path}: holds a run that has not ended, or was cut off; choose another folder, "
            "or say that it may be overwritten"
        )


def _text(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: null stands for them."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }
