"""`dbp params JOB --watch`: print a line for each new version, with the distance moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dbp.cli.screen.output import echo, echo_json, version_content, writing
from dbp.errors import alternatives
from dbp.job.labels import ALWAYS_NEWEST
from dbp.quantities import duration_text
from dbp.storage.atomic_file import write_file

if TYPE_CHECKING:
    from dbp.client.job import JobHandle
    from dbp.client.parameter_set import ParameterSet


def watch(
    job: JobHandle,
    patterns: tuple[str, ...],
    label: str,
    cast: str | None,
    file: Path | None,
    output: str,
    prove: Callable[[ParameterSet], list[str]] | None,
) -> None:
    """Follow the newest version, or the label's; with ``file``, replace it at each version.

    ``prove``, if given, verifies each version before it is used.
    """
    before: ParameterSet | None = None
    if label:
        _note_missing(job, label)
    for update in job.watch_parameters(*patterns, label=label, data=True, cast=cast):
        found = update.parameters
        if found is None:  # not with data
            continue
        proof = prove(found) if prove else None
        if file is not None:
            with writing(file):
                write_file(file, [found.content])
        change = None if before is None else _distance(before, found)
        late = max(0.0, time.time() - found.version.publish_time)
        before = found
        if output == "json":
            echo_json(
                {
                    "job": job.id,
                    **version_content(found.version),
                    "skipped": update.skipped,
                    "seconds_late": late,
                    "change": change,
                    **({"verified": proof} if proof else {}),
                }
            )
            continue
        version = found.version
        moved = "" if change is None else f", moved {change:.4g}"
        missed = f", {update.skipped} skipped" if update.skipped else ""
        echo(
            f"version {version.version}, step {version.step:,}"
            + (" (final)" if version.final else "")
            + f", sha256 {version.digest[:16]}, {duration_text(late)} old{moved}{missed}"
            + (", verified" if proof else "")
        )


def _note_missing(job: JobHandle, label: str) -> None:
    """Say on stderr that the label is at no version yet: the watch waits for it."""
    known = [*(move.label for move in job.labels()[0]), *ALWAYS_NEWEST]
    if label not in known:
        hint = alternatives(label, known, "labels")
        echo(f"{job.id}: no label {label!r} yet{hint}; waiting for it", err=True)


def _distance(before: ParameterSet, after: ParameterSet) -> float:
    """Return the Euclidean norm of the change of all tensors."""
    squares = 0.0
    for name, array in after.tensors.items():
        change = array.astype(np.float64) - before[name].astype(np.float64)
        squares += float(np.vdot(change, change))
    return float(np.sqrt(squares))
