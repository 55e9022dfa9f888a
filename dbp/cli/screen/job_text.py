"""Describe a job of a service: as a row of a list, and in full."""

from __future__ import annotations

import time

from dbp.cli.screen.follow import progress_text
from dbp.cli.screen.output import time_text
from dbp.job.ending_text import job_ending_lines, job_ending_word
from dbp.job.failure_text import attempt_text, condition_text, condition_word
from dbp.job.state import Job
from dbp.quantities import count_text, duration_text


def job_row(job: Job) -> tuple[str, ...]:
    """Return the cells of a job in a list of jobs."""
    step = f"{job.progress.step:,}/{job.progress.total_steps:,}" if job.progress else "-"
    version = str(job.latest_parameters.version) if job.latest_parameters else "-"
    created = time_text(job.create_time)
    state, workers = job.state.value, str(job.workers)
    return (job.id, state, workers, step, version, created, job_note(job))


def job_note(job: Job) -> str:
    """Return its conditions, else why it waits, else how it ended; "" if nothing is to say."""
    note = ", ".join(condition_word(condition.kind) for condition in job.conditions)
    return note or job.waiting_reason or job_ending_word(job)


def _live_lines(job: Job) -> list[str]:
    """Return why a job waits, its conditions, its last failure and its last report."""
    lines = [f"  waits      {job.waiting_reason}"] if job.waiting_reason else []
    if job.state.value == "PAUSED":
        lines.append(f"  paused     continue it with: dbp resume {job.id}")
    lines += [
        f"  condition  {condition_text(condition)} (since {time_text(condition.since)})"
        for condition in job.conditions
    ]
    if job.previous_failure is not None:
        lines.append(f"  failed     {attempt_text(job.previous_failure)}")
    if job.report_time is not None:
        age = max(0.0, time.time() - job.report_time)
        lines.append(f"  last heard {time_text(job.report_time)}, {duration_text(age)} ago")
    return lines


def job_details(job: Job) -> str:
    """Return the text of ``dbp show``."""
    lines = [
        f"{job.id}: {job.state}, {count_text(job.workers, 'worker')}, attempt {job.attempt}",
        f"  created    {time_text(job.create_time)} UTC" + f" by {job.owner}" * bool(job.owner),
        f"  started    {time_text(job.start_time)}" + (f" on {job.host}" if job.host else ""),
        f"  ended      {time_text(job.end_time)}",
        f"  spec       {job.spec_digest}",
        *(f"  note       {note}" for note in job.notes),
    ]
    lines += _live_lines(job)
    if job.progress is not None:
        lines.append(
            f"  progress   {progress_text(job.progress, ended=not job.state.launched)}"
        )
    if job.latest_parameters is not None:
        newest = job.latest_parameters
        lines.append(f"  parameters version {newest.version}, step {newest.step:,}")
    lines += [f"  {line}" for line in job_ending_lines(job)]
    return "\n".join(lines)
