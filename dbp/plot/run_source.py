"""Read the figures of a run folder for curves, also while the run writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from dbp.errors import InvalidInput
from dbp.plot.curves import CurveSource
from dbp.train.report.run_contents import check_run
from dbp.train.report.run_files import METRICS


def run_source(folder: Path) -> CurveSource:
    """Return the figures of all epochs of a run.

    Raises InvalidInput if the folder contains no run, or if no epoch has ended.
    """
    check_run(folder)
    try:
        lines = (folder / METRICS).read_bytes().splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise InvalidInput(f"{folder / METRICS}: cannot be read: {error.strerror}") from error
    rows = list(_rows(lines))
    if not rows:
        raise InvalidInput(
            f"{folder}: no metrics yet: the first are written when epoch 1 has ended"
        )
    return CurveSource(str(folder), rows)


def _rows(lines: list[bytes]) -> Iterator[dict[str, float]]:
    """Yield the figures of each epoch; neither a line cut off nor that of the run's end."""
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if not isinstance(fields, dict) or "status" in fields:
            continue
        row = {name: float(value) for name, value in fields.items() if _is_number(value)}
        if row.keys() >= {"time", "step", "epoch"}:
            yield row


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
