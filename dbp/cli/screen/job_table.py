"""The live table of `dbp top`: jobs that run or wait first, with their newest figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dbp.cli.screen.job_text import job_note
from dbp.job.state import Job, State
from dbp.printable import printable_line
from dbp.quantities import count_text, duration_text

# In this order; the newest job of a state first.
_ORDER: Final = (
    State.RUNNING, State.STARTING, State.PAUSING, State.CANCELLING, State.QUEUED, State.PAUSED,
    State.FAILED, State.CANCELLED, State.SUCCEEDED,
)  # fmt: skip
_COLORS: Final = {State.RUNNING: "green", State.FAILED: "red", State.QUEUED: "yellow"}
HEADINGS: Final = (
    "JOB", "STATE", "WORKERS", "DONE", "EPOCH", "LOSS", "VALIDATION", "SAMPLES/S", "TO GO",
    "NOTE",
)  # fmt: skip
_LEFT: Final = frozenset({"JOB", "STATE", "NOTE"})
_NONE: Final = "-"
_LEAST_NOTE: Final = 12  # columns
_GAP: Final = 2
# Columns to leave out on a narrow screen, in this order.
_DISPENSABLE: Final = ("SAMPLES/S", "WORKERS", "EPOCH", "LOSS", "VALIDATION", "TO GO")


@final
@dataclass(frozen=True)
class Shown:
    """One state of the table: the jobs, the time of day, and why they may be old ("": new)."""

    jobs: Sequence[Job]
    clock: str
    trouble: str = ""


def ordered(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs that run first, then those that wait, then those that have ended."""
    return sorted(jobs, key=lambda job: (_ORDER.index(job.state), -job.create_time))


def heading_text(shown: Shown) -> str:
    """Return how many jobs there are in each state, and the time."""
    counts = Counter(job.state for job in shown.jobs)
    parts = [f"{counts[state]:,} {state.value.lower()}" for state in _ORDER if counts[state]]
    return f"{shown.clock}  {', '.join(parts) or 'no jobs'}"


def top_row(job: Job) -> tuple[str, ...]:
    """Return the cells of a job; an ended job has no rate and no time to go."""
    note = printable_line(job_note(job))
    progress = job.progress
    if progress is None or not progress.total_steps:
        return (job.id, job.state.value, str(job.workers), *[_NONE] * 6, note)
    share = math.floor(100 * progress.step / progress.total_steps)
    loss = progress.metrics.get("training_loss", progress.loss)
    launched = job.state.launched
    rate = f"{progress.samples_per_second:,.0f}" if launched else _NONE
    to_go = progress.eta_seconds if launched else None
    return (
        job.id,
        job.state.value,
        str(job.workers),
        f"{share} %",
        f"{progress.epoch:,}",
        f"{loss:.4g}",
        _validation(job),
        rate,
        _NONE if to_go is None else duration_text(math.ceil(to_go)),
        note,
    )


def job_table(shown: Shown, width: int, lines: int) -> Group:
    """Return the table as a renderable of rich of at most this size."""
    jobs = ordered(shown.jobs)
    fitting = max(1, lines - 3)  # heading of the page, that of the table, the last line
    rows = [top_row(job) for job in jobs[:fitting]]
    kept, note_width = _layout([HEADINGS, *rows], width)
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for place in kept:
        heading = HEADINGS[place]
        side: Literal["left", "right"] = "left" if heading in _LEFT else "right"
        grid.add_column(heading, justify=side, no_wrap=True, overflow="ellipsis")
    for job, row in zip(jobs, rows, strict=False):
        # Text, not str: rich would obey marks such as [link] in the note of a job.
        cells = [Text(row[place]) for place in kept]
        cells[-1].truncate(note_width, overflow="ellipsis")
        cells[1].stylize(_COLORS.get(job.state, ""))
        grid.add_row(*cells)
    rest = len(jobs) - fitting
    last = shown.trouble or (count_text(rest, "more job") if rest > 0 else "")
    return Group(
        Text(heading_text(shown), no_wrap=True, overflow="ellipsis"), grid,
        Text(last, style="red" if shown.trouble else "", no_wrap=True, overflow="ellipsis"),
    )  # fmt: skip


def _layout(rows: Sequence[Sequence[str]], width: int) -> tuple[list[int], int]:
    """Return the places of the columns that fit the width, and the columns left to a note."""
    kept = list(range(len(HEADINGS)))
    widths = [max(cell_len(row[place]) for row in rows) + _GAP for place in kept]
    most = widths.pop()  # the note is cut, down to its beginning
    for heading in _DISPENSABLE:
        if sum(widths[place] for place in kept[:-1]) + min(most, _LEAST_NOTE) <= width:
            break
        kept.remove(HEADINGS.index(heading))
    return kept, max(_LEAST_NOTE, width - sum(widths[place] for place in kept[:-1])) - _GAP


def _validation(job: Job) -> str:
    """Return the main validation metric, or the validation loss where it is the only one."""
    metrics = job.progress.metrics if job.progress is not None else {}
    names = [name for name in metrics if name.startswith("validation_")]
    name = next((name for name in names if name != "validation_loss"), "validation_loss")
    if name not in metrics:
        return _NONE
    return f"{name.removeprefix('validation_')} {metrics[name]:.4g}"
