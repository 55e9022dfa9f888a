"""`dbp params versions`, `labels`, `label`, `pin`, `unpin`, `publish`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from dbp.cli.arguments.job import JOB, LABEL
from dbp.cli.arguments.ranges import COUNT, SECONDS
from dbp.cli.arguments.service import connect, find_job
from dbp.cli.arguments.version import VERSION, VersionName
from dbp.cli.screen.output import (
    echo,
    echo_json,
    first_of,
    label_content,
    note_more,
    output_option,
    service_option,
    table,
    time_text,
    version_content,
)
from dbp.errors import InvalidInput
from dbp.job.state import VersionEntry
from dbp.json_value import JsonValue


@click.command()
@click.argument("job", type=JOB)
@click.option(
    "--limit",
    type=COUNT,
    default=20,
    show_default=True,
    help="List at most this many versions.",
)
@service_option
@output_option
def versions(job: str, limit: int, service: str, output: str) -> None:
    """List the versions of JOB, newest first.

    Versions whose bytes are deleted are listed, too, with their digests.
    """
    with connect(service) as client:
        entries, more = first_of(find_job(client, job).versions(), limit)
    if output == "json":
        echo_json([_entry_content(entry) for entry in entries])
    else:
        _show_entries(entries)
    if more:
        note_more(len(entries), "version")


def _show_entries(entries: Sequence[VersionEntry]) -> None:
    rows = [
        (
            str(entry.version.version),
            f"{entry.version.step:,}" + (" (final)" if entry.version.final else ""),
            time_text(entry.version.publish_time),
            entry.version.digest[:16],
            "yes" if entry.kept else "no",
            ", ".join(_holds(entry)),
        )
        for entry in entries
    ]
    echo(table([("VERSION", "STEP", "PUBLISHED", "SHA256", "KEPT", "LABELS"), *rows]))


def _holds(entry: VersionEntry) -> Iterator[str]:
    """Yield the reasons to keep a version: labels, a pin, labels that an undo moves back."""
    yield from entry.labels
    if entry.pinned:
        yield "pinned"
    yield from (f"was {label}" for label in entry.left_by)


@click.command()
@click.argument("job", type=JOB)
@click.option("--history", is_flag=True, help="List all moves of the labels, oldest first.")
@service_option
@output_option
def labels(job: str, history: bool, service: str, output: str) -> None:
    """List the labels of JOB and their versions."""
    with connect(service) as client:
        now, moves = find_job(client, job).labels()
    shown = moves if history else now
    if output == "json":
        echo_json([label_content(move) for move in shown])
        return
    rows = [
        (m.label, str(m.version or "-"), str(m.previous or "-"), time_text(m.time))
        for m in shown
    ]
    echo(table([("LABEL", "VERSION", "BEFORE", "SINCE"), *rows]))


@click.command()
@click.argument("job", type=JOB)
@click.argument("name", type=LABEL)
@click.argument("version", type=VERSION, required=False)
@click.option(
    "--undo", is_flag=True, help="Move the label back to the version that it left last."
)
@click.option(
    "--remove", is_flag=True,
    help="Remove the label; run it twice to release the version kept for --undo, too.",
)  # fmt: skip
@service_option
@output_option
def label(
    job: str,
    name: str,
    version: VersionName | None,
    undo: bool,
    remove: bool,
    service: str,
    output: str,
) -> None:
    """Move the label NAME to VERSION of JOB.

    VERSION is a number, latest, another label, or step:N. A version with a label is kept. The
    version that a label leaves is kept, too, until the label's next move, so that --undo can
    move the label back; a second --undo reverses the first.

    \b
    Examples:
      dbp params label digits-7k2m9q stable 12
      dbp params label digits-7k2m9q stable latest
      dbp params label digits-7k2m9q stable --undo
      dbp params label digits-7k2m9q stable --remove
    """
    if (version is not None) + undo + remove != 1:
        raise InvalidInput("label: name a version, --undo the last move, or --remove the label")
    with connect(service) as client:
        handle = find_job(client, job)
        if undo:
            move = handle.undo_label(name)
        elif version is None:
            move = handle.move_label(name, 0)
        else:
            move = handle.move_label(name, **version.changing())
    if output == "json":
        echo_json(label_content(move))
        return
    now = f"version {move.version}" if move.version else "removed"
    before = f", before: version {move.previous} (kept for --undo)" if move.previous else ""
    echo(f"{move.label}: {now}{before}")


@click.command()
@click.argument("job", type=JOB)
@click.argument("version", type=VERSION)
@service_option
@output_option
def pin(job: str, version: VersionName, service: str, output: str) -> None:
    """Keep VERSION of JOB until it is unpinned.

    VERSION is a number, latest, a label, or step:N.

    \b
    Examples:
      dbp params pin digits-7k2m9q 12
      dbp params pin digits-7k2m9q latest
    """
    _pin(job, version, service, output, pinned=True)


@click.command()
@click.argument("job", type=JOB)
@click.argument("version", type=VERSION)
@service_option
@output_option
def unpin(job: str, version: VersionName, service: str, output: str) -> None:
    """Unpin VERSION of JOB.

    Retention may then delete the version, as newer ones are published.

    VERSION is a number, latest, a label, or step:N.
    """
    _pin(job, version, service, output, pinned=False)


@click.command()
@click.argument("job", type=JOB)
@click.option(
    "--wait", type=SECONDS, default=30.0, show_default=True, metavar="SECONDS",
    help="Time to wait for the version.",
)  # fmt: skip
@service_option
@output_option
def publish(job: str, wait: float, service: str, output: str) -> None:
    """Publish a version of JOB now, and wait for it."""
    with connect(service) as client:
        version = find_job(client, job).publish(wait=wait)
    if output == "json":
        echo_json(version_content(version))
    else:
        echo(f"version {version.version}, step {version.step:,}")


def _pin(job: str, version: VersionName, service: str, output: str, *, pinned: bool) -> None:
    with connect(service) as client:
        entry = find_job(client, job).pin(**version.changing(), pinned=pinned)
    if output == "json":
        echo_json(_entry_content(entry))
    else:
        state = "pinned" if entry.pinned else "kept" if entry.kept else "no longer kept"
        echo(f"version {entry.version.version}: {state}")


def _entry_content(entry: VersionEntry) -> dict[str, JsonValue]:
    return {
        **version_content(entry.version),
        "kept": entry.kept,
        "pinned": entry.pinned,
        "labels": list(entry.labels),
        "left_by": list(entry.left_by),
    }
