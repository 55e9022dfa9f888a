"""Jobs of a service: submit, jobs, show, watch, logs, cancel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.job import JOB
from dbp.cli.arguments.ranges import COUNT, RANK, SECONDS, SMALL_COUNT
from dbp.cli.arguments.service import connect, find_job
from dbp.cli.screen.output import (
    echo,
    echo_json,
    first_of,
    job_content,
    note_more,
    output_option,
    service_option,
    table,
)
from dbp.exit_codes import DONE, FAILED, STOPPED
from dbp.json_value import JsonObject
from dbp.quantities import count_text

if TYPE_CHECKING:
    from dbp.client.job import JobHandle
    from dbp.client.spec import ValidatedJob

STATES: Final = (
    "queued", "starting", "running", "pausing", "paused", "cancelling", "succeeded", "failed",
    "cancelled",
)  # fmt: skip


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--workers",
    "-n",
    type=SMALL_COUNT,
    default=1,
    show_default=True,
    help="Processes to train with.",
)
@click.option("--watch", is_flag=True, help="Follow the job until it has ended.")
@click.option(
    "--check", "--validate-only", is_flag=True,
    help="Validate only; the service starts nothing.",
)  # fmt: skip
@click.option(
    "--request-id",
    help="Make a retry safe: the same id, spec and workers return the same job.",
)
@service_option
@output_option
def submit(
    spec: Path,
    workers: int,
    watch: bool,
    check: bool,
    request_id: str | None,
    service: str,
    output: str,
) -> None:
    """Submit the job in SPEC, a .toml or .json file, and print its id.

    Once the id is printed, no crash of the service loses the job.

    \b
    Examples:
      dbp submit job.toml --workers 2 --watch
      JOB=$(dbp submit job.toml) && dbp watch $JOB
      dbp submit job.toml --check
    """
    from dbp.client.spec import ValidatedJob

    with connect(service) as client:
        job = client.submit(spec, workers=workers, request_id=request_id, validate_only=check)
        for note in job.notes:
            echo(f"note: {note}", err=True)
        if isinstance(job, ValidatedJob):
            _show_validated(spec, job, output)
            return
        if output == "json":
            echo_json(job_content(job.get()))
        else:
            echo(job.id)
        if watch:
            sys.exit(_follow(job, output))


@click.command()
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES),
    help="List only jobs in this state; may be repeated.",
)
@click.option(
    "--limit", type=COUNT, default=50, show_default=True, help="List at most this many jobs."
)
@service_option
@output_option
def jobs(states: tuple[str, ...], limit: int, service: str, output: str) -> None:
    """List jobs, newest first.

    \b
    Examples:
      dbp jobs
      dbp jobs --state running --state queued --output json
    """
    from dbp.cli.screen.job_text import job_row
    from dbp.job.state import State

    wanted = [State(state.upper()) for state in states]
    with connect(service) as client:
        found, more = first_of(client.jobs(*wanted), limit)
    if output == "json":
        echo_json([job_content(job) for job in found])
    elif not found:
        echo("no jobs")
    else:
        heading = ("JOB", "STATE", "WORKERS", "STEP", "VERSION", "CREATED (UTC)", "NOTE")
        echo(table([heading, *map(job_row, found)]))
    if more:
        note_more(len(found), "job", filters="" if states else ", --state STATE")


@click.command()
@click.argument("job", type=JOB)
@service_option
@output_option
def show(job: str, service: str, output: str) -> None:
    """Show the state of JOB, and why it waits or failed.

    JOB is the id of a job, or a beginning of it that is unique, here and in all commands.

    \b
    Examples:
      dbp show digits-7k2m9q
      dbp show digits-7 --output json
    """
    from dbp.cli.screen.job_text import job_details

    with connect(service) as client:
        found = find_job(client, job).get()
    if output == "json":
        echo_json(job_content(found))
    else:
        echo(job_details(found))


@click.command()
@click.argument("job", type=JOB)
@service_option
@output_option
def watch(job: str, service: str, output: str) -> None:
    """Follow JOB until it has ended; Ctrl-C leaves it running.

    Shows epoch, step, loss, validation accuracy, samples per second and the time left. The exit
    code is 0 if the job succeeded, 1 if it failed, 75 if it was cancelled.

    \b
    Examples:
      dbp watch digits-7k2m9q
      dbp watch digits-7k2m9q --output json
    """
    with connect(service) as client:
        sys.exit(_follow(find_job(client, job), output))


@click.command()
@click.argument("job", type=JOB)
@click.option("--follow", "-f", is_flag=True, help="Print new lines until the job has ended.")
@click.option(
    "--attempt", type=SMALL_COUNT, help="Number of the launch.  [default: the newest]"
)
@click.option(
    "--rank", type=RANK, help="Only the output of this rank (the first is 0).  [default: all]"
)
@service_option
@output_option
def logs(
    job: str, follow: bool, attempt: int | None, rank: int | None, service: str, output: str
) -> None:
    """Print the output of JOB's processes.

    \b
    Examples:
      dbp logs digits-7k2m9q
      dbp logs digits-7k2m9q --follow
      dbp logs digits-7k2m9q --rank 1
    """
    with connect(service) as client:
        for line in find_job(client, job).logs(follow=follow, attempt=attempt or 0, rank=rank):
            if output == "json":
                echo_json({"line": line})
            else:
                echo(line)


@click.command()
@click.argument("job", type=JOB)
@click.option("--force", is_flag=True, help="Kill the job now, without waiting for the step.")
@click.option(
    "--grace", type=SECONDS, metavar="SECONDS",
    help="Time that the job has to stop before it is killed.  [default: 10]",
)  # fmt: skip
@service_option
@output_option
def cancel(job: str, force: bool, grace: float | None, service: str, output: str) -> None:
    """Ask JOB to stop after the current step; its parameters stay readable.

    \b
    Examples:
      dbp cancel digits-7k2m9q
      dbp cancel digits-7k2m9q --grace 60
      dbp cancel digits-7k2m9q --force
    """
    with connect(service) as client:
        handle = find_job(client, job)
        had_ended = handle.get().state.terminal
        found = handle.cancel(force=force, grace_seconds=grace)
    if output == "json":
        echo_json(job_content(found))
    else:
        echo(f"{found.id} {'already ended:' if had_ended else 'is'} {found.state}")


def _show_validated(file: Path, job: ValidatedJob, output: str) -> None:
    """Print what the service has checked."""
    if output == "text":
        echo(f"{file}: valid for {count_text(job.workers, 'worker')}, spec {job.spec_digest}")
        return
    content: JsonObject = {
        "spec": str(file),
        "valid": True,
        "workers": job.workers,
        "spec_digest": job.spec_digest,
        "resolved": job.spec,
        "notes": job.notes,
    }
    echo_json(content)


def _follow(job: JobHandle, output: str) -> int:
    """Show the job until it has ended; returns the exit code."""
    from dbp.cli.screen.follow import follow
    from dbp.job.state import State

    try:
        ended = follow(job, output)
    except KeyboardInterrupt:
        echo(f"\n{job.id} is not affected; follow it again: dbp watch {job.id}", err=True)
        raise
    return {State.SUCCEEDED: DONE, State.CANCELLED: STOPPED}.get(ended.state, FAILED)
