"""Jobs of a service after their submission: pause, resume, retry, delete."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dbp.cli.arguments.job import JOB
from dbp.cli.arguments.ranges import SECONDS
from dbp.cli.arguments.service import connect, find_job
from dbp.cli.screen.output import echo, echo_json, job_content, output_option, service_option
from dbp.quantities import count_text

if TYPE_CHECKING:
    from dbp.client.job import JobHandle
    from dbp.job.state import Job, VersionEntry


@click.command()
@click.argument("job", type=JOB)
@click.option(
    "--grace", type=SECONDS, metavar="SECONDS",
    help="Kill the processes of the job if it has not stopped after this time; it then "
    "continues from an older checkpoint.  [default: 60]",
)  # fmt: skip
@service_option
@output_option
def pause(job: str, grace: float | None, service: str, output: str) -> None:
    """Stop JOB at a checkpoint after its current step; its slots become free.

    A queued job leaves the queue. `dbp resume JOB` continues the job, which ends with the same
    bits as without the pause. A paused job survives restarts of the service. A run that was
    started by hand cannot be paused.

    \b
    Examples:
      dbp pause digits-7k2m9q
      dbp pause digits-7k2m9q --grace 600      (steps of minutes, a large checkpoint)
      dbp jobs --state paused
    """
    with connect(service) as client:
        found = find_job(client, job).pause(grace_seconds=grace)
    remedy = f"continue it with: dbp resume {found.id}"
    if found.state.value == "PAUSING":
        remedy = f"once it is PAUSED (dbp show {found.id}), {remedy}"
    _show(found, output, remedy)


@click.command()
@click.argument("job", type=JOB)
@service_option
@output_option
def resume(job: str, service: str, output: str) -> None:
    """Queue the paused JOB again; it continues from its checkpoint.

    \b
    Examples:
      dbp resume digits-7k2m9q
      dbp resume digits-7k2m9q && dbp watch digits-7k2m9q
    """
    with connect(service) as client:
        found = find_job(client, job).resume()
    _show(found, output, f"follow it with: dbp watch {found.id}")


@click.command()
@click.argument("job", type=JOB)
@service_option
@output_option
def retry(job: str, service: str, output: str) -> None:
    """Queue JOB again, which failed or was cancelled; it continues from its newest checkpoint.

    Remove the cause of the failure first (dbp show JOB names it): the spec stays the same. A
    job without a checkpoint is submitted again instead.

    \b
    Examples:
      dbp retry digits-7k2m9q
      dbp jobs --state failed --state cancelled
    """
    with connect(service) as client:
        found = find_job(client, job).retry()
    _show(found, output, f"follow it with: dbp watch {found.id}")


@click.command()
@click.argument("job", type=JOB)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation on a terminal.")
@service_option
@output_option
def delete(job: str, yes: bool, service: str, output: str) -> None:
    """Delete JOB, which has ended, with its log, checkpoints and parameters, for ever.

    Pinned and labelled versions are deleted, too. On a terminal the command asks first. A job
    that has not ended is cancelled first: dbp cancel JOB.

    \b
    Examples:
      dbp delete digits-7k2m9q
      dbp delete digits-7k2m9q --yes
    """
    with connect(service) as client:
        handle = find_job(client, job)
        if not yes and sys.stdin.isatty():
            _confirm(handle)
        deleted = handle.delete()
    if output == "json":
        echo_json(job_content(deleted))
    else:
        echo(f"{deleted.id} is deleted")


def _show(job: Job, output: str, remedy: str) -> None:
    if output == "json":
        echo_json(job_content(job))
        return
    waits = f" ({job.waiting_reason})" if job.waiting_reason else ""
    echo(f"{job.id} is {job.state}{waits}\n{remedy}")


def _confirm(handle: JobHandle) -> None:
    """Ask on the terminal whether to delete a job, naming the loss; raises Abort."""
    job = handle.get()
    if not job.state.terminal:
        return  # the service refuses to delete it
    kept = [entry for entry in handle.versions() if entry.kept]
    lost = [count_text(len(kept), "version")] if kept else []
    lost += [*_protected(kept), "its checkpoints and log"]
    click.confirm(
        f"Delete {job.id} ({job.state}) with {', '.join(lost)}? They are lost for ever.",
        abort=True,
        err=True,
    )


def _protected(kept: list[VersionEntry]) -> Iterator[str]:
    """Yield the pins and labels, which protect no version from an explicit deletion."""
    pinned = sorted(entry.version.version for entry in kept if entry.pinned)
    if pinned:
        yield f"pinned {', '.join(map(str, pinned))}"
    labels = sorted((label, entry.version.version) for entry in kept for label in entry.labels)
    if labels:
        yield "labelled " + ", ".join(f"{label} -> {version}" for label, version in labels)
