"""`dbp params versions`, `labels`, `label`, `pin`, `unpin`, `publish`."""

from __future__ import annotations

import itertools
from typing import Any

import click

from dbp.cli.job_lookup import find_job
from dbp.cli.output import (
    echo_json,
    output_option,
    service_option,
    table,
    time_text,
    version_content,
)
from dbp.cli.ranges import COUNT, SECONDS
from dbp.errors import InvalidInput
from dbp.job.state import LabelMove, VersionEntry


@click.command()
@click.argument("job")
@click.option(
    "--limit", type=COUNT, default=20, show_default=True, help="Most versions to list."
)
@service_option
@output_option
def versions(job: str, limit: int, service: str, output: str) -> None:
    """List the versions of JOB, newest first, including those whose bytes are deleted."""
    from dbp.cli.connection import connect

    with connect(service) as client:
        entries = list(itertools.islice(find_job(client, job).versions(), limit))
    if output == "json":
        echo_json([_entry_content(entry) for entry in entries])
        return
    rows = [
        (
            str(entry.version.version),
            f"{entry.version.step:,}" + (" (final)" if entry.version.final else ""),
            time_text(entry.version.publish_time),
            entry.version.digest[:16],
            "yes" if entry.kept else "no",
            ", ".join((*entry.labels, *(("pinned",) if entry.pinned else ()))),
        )
        for entry in entries
    ]
    click.echo(table([("VERSION", "STEP", "PUBLISHED", "SHA256", "KEPT", "LABELS"), *rows]))


@click.command()
@click.argument("job")
@click.option("--history", is_flag=True, help="List all moves, oldest first.")
@service_option
@output_option
def labels(job: str, history: bool, service: str, output: str) -> None:
    """List the labels of JOB and their versions; with --history all moves."""
    from dbp.cli.connection import connect

    with connect(service) as client:
        now, moves = find_job(client, job).labels()
    shown = moves if history else now
    if output == "json":
        echo_json([_move_content(move) for move in shown])
        return
    rows = [(m.label, str(m.version or "-"), time_text(m.time)) for m in shown]
    click.echo(table([("LABEL", "VERSION", "SINCE"), *rows]))


@click.command()
@click.argument("job")
@click.argument("name")
@click.argument("version", type=COUNT, required=False)
@click.option("--remove", is_flag=True, help="Remove the label.")
@service_option
@output_option
def label(
    job: str, name: str, version: int | None, remove: bool, service: str, output: str
) -> None:
    """Move the label NAME to VERSION of JOB. A version with a label is kept.

    \b
    Examples:
      dbp params label digits-7k2m9q stable 12
      dbp params label digits-7k2m9q stable --remove
    """
    from dbp.cli.connection import connect

    if (version is None) != remove:
        raise InvalidInput("label: name a version, or --remove the label")
    with connect(service) as client:
        move = find_job(client, job).move_label(name, version or 0)
    if output == "json":
        echo_json(_move_content(move))
    else:
        click.echo(
            f"{move.label}: version {move.version}" if move.version else f"{name}: removed"
        )


@click.command()
@click.argument("job")
@click.argument("version", type=COUNT)
@service_option
@output_option
def pin(job: str, version: int, service: str, output: str) -> None:
    """Keep VERSION of JOB until it is unpinned."""
    _pin(job, version, service, output, pinned=True)


@click.command()
@click.argument("job")
@click.argument("version", type=COUNT)
@service_option
@output_option
def unpin(job: str, version: int, service: str, output: str) -> None:
    """Unpin VERSION of JOB, so that it may be deleted as newer ones come."""
    _pin(job, version, service, output, pinned=False)


@click.command()
@click.argument("job")
@click.option(
    "--wait", type=SECONDS, default=30.0, show_default=True, metavar="SECONDS",
    help="Time to wait for the version.",
)  # fmt: skip
@service_option
@output_option
def publish(job: str, wait: float, service: str, output: str) -> None:
    """Publish a version of JOB now, and wait for it."""
    from dbp.cli.connection import connect

    with connect(service) as client:
        version = find_job(client, job).publish(wait=wait)
    if output == "json":
        echo_json(version_content(version))
    else:
        click.echo(f"version {version.version}, step {version.step:,}")


def _pin(job: str, version: int, service: str, output: str, *, pinned: bool) -> None:
    from dbp.cli.connection import connect

    with connect(service) as client:
        entry = find_job(client, job).pin(version, pinned=pinned)
    if output == "json":
        echo_json(_entry_content(entry))
    else:
        state = "pinned" if entry.pinned else "kept" if entry.kept else "no longer kept"
        click.echo(f"version {version}: {state}")


def _entry_content(entry: VersionEntry) -> dict[str, Any]:
    return {
        **version_content(entry.version),
        "kept": entry.kept,
        "pinned": entry.pinned,
        "labels": list(entry.labels),
    }


def _move_content(move: LabelMove) -> dict[str, Any]:
    return {"label": move.label, "version": move.version or None, "time": move.time}
