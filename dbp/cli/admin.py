"""`dbp admin`: operate a service."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.ranges import SECONDS
from dbp.cli.arguments.service import TIMEOUT_SECONDS
from dbp.cli.screen.output import echo_json, output_option, service_option
from dbp.errors import DeadlineExceeded
from dbp.quantities import count_text, duration_text

if TYPE_CHECKING:
    from dbp.json_value import JsonObject

POLL_SECONDS: Final = 0.5
_SHOWN: Final = 5


@click.group()
def admin() -> None:
    """Operate a service: drain it before maintenance.

    These commands need the role admin: over the service's Unix socket its own user has it.

    \b
    Examples:
      dbp admin drain --wait
      dbp admin undrain
    """


@admin.command()
@click.option("--finish", is_flag=True, help="Let running jobs train to their ends.")
@click.option("--wait", is_flag=True, help="Return when no job of the service runs any more.")
@click.option(
    "--timeout", type=SECONDS, metavar="SECONDS",
    help="With --wait: exit with code 3 if jobs still run then.  [default: no limit]",
)  # fmt: skip
@service_option
@output_option
def drain(finish: bool, wait: bool, timeout: float | None, service: str, output: str) -> None:
    """Start no more jobs; running ones write a checkpoint and stop.

    They are queued again, and continue with the same bits after `dbp admin undrain` or the next
    start of the service, which ends the drain. New jobs are queued. Runs that were started by
    hand continue.

    \b
    Examples:
      dbp admin drain --wait && systemctl stop dbp
      dbp admin drain --finish --wait --timeout 3600
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout: takes --wait")
    left = asyncio.run(_drain(service, finish=finish, wait=wait, timeout=timeout))
    if output == "json":
        content: JsonObject = {"draining": True, "running": left}
        echo_json(content)
    elif left:
        click.echo(f"draining: {count_text(len(left), 'job')} still running: {_names(left)}")
    else:
        click.echo("drained: no job runs; start jobs again: dbp admin undrain")


@admin.command()
@service_option
@output_option
def undrain(service: str, output: str) -> None:
    """Start jobs again after `dbp admin drain`.

    \b
    Examples:
      dbp admin undrain
    """
    asyncio.run(_undrain(service))
    if output == "json":
        content: JsonObject = {"draining": False}
        echo_json(content)
    else:
        click.echo("the service starts jobs")


async def _drain(service: str, *, finish: bool, wait: bool, timeout: float | None) -> list[str]:
    """Drain the service; return the ids of the jobs that still run."""
    from dbp.client.admin import AdminCalls

    end = None if timeout is None else time.monotonic() + timeout
    async with AdminCalls(service, timeout=TIMEOUT_SECONDS) as calls:
        left = await calls.begin_drain(finish_jobs=finish)
        while left and wait:
            if end is not None and time.monotonic() >= end:
                raise DeadlineExceeded(
                    f"{count_text(len(left), 'job')} still running after "
                    f"{duration_text(timeout or 0.0)}: {_names(left)}; wait longer, or end a "
                    "job by force: dbp cancel --force JOB"
                )
            await asyncio.sleep(POLL_SECONDS)
            left = await calls.begin_drain(finish_jobs=finish)
    return left


async def _undrain(service: str) -> None:
    from dbp.client.admin import AdminCalls

    async with AdminCalls(service, timeout=TIMEOUT_SECONDS) as calls:
        await calls.end_drain()


def _names(jobs: list[str]) -> str:
    return ", ".join(sorted(jobs)[:_SHOWN]) + ", ..." * (len(jobs) > _SHOWN)
