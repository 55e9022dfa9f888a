"""Options shared by commands, and output as text, tables, listings or JSON."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from dbp.errors import InvalidInput
from dbp.json_value import JsonObject, JsonValue
from dbp.printable import json_escaped, printable_output
from dbp.quantities import count_text
from dbp.rpc.address import SERVICE_VARIABLE, service_address

if TYPE_CHECKING:
    from dbp.job.state import Job, LabelMove, ProgressReport, Version

T = TypeVar("T")

# From here on, digits after the decimal point say nothing.
WHOLE: Final = 1_000.0

service_option = click.option(
    "--service",
    metavar="HOST:PORT|unix:PATH",
    callback=lambda _ctx, _param, given: service_address(given),
    help=f"The service.  [default: ${SERVICE_VARIABLE}, else the one with the state folder "
    "$DBP_STATE or the user's]",
)
output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the output; json is for programs.",
)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text that may be of a service or a file, without its control characters.

    ``err``: on stderr; ``nl``: with a line feed at the end.
    """
    click.echo(printable_output(text), err=err, nl=nl)


def echo_json(content: JsonValue) -> None:
    """Print one JSON value on a line, safe for terminals; NaN and infinity become null."""
    click.echo(json_text(content))


def json_text(content: JsonValue) -> str:
    """Return a JSON value on a line, safe for terminals; NaN and infinity become null."""
    text = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False)
    return json_escaped(text)


def number_text(value: float) -> str:
    """Return a number with four digits, or all before its decimal point."""
    if math.isfinite(value) and abs(value) >= WHOLE and abs(value) < 1e15:
        return f"{value:,.0f}"
    return "-" if math.isnan(value) else f"{value:.4g}"


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@contextlib.contextmanager
def writing(path: Path, *sources: Path) -> Iterator[None]:
    """Raise InvalidInput that names the file if it cannot be written.

    ``sources``: files that the command reads; they are never overwritten, nor is a file of a
    run.
    """
    try:
        _check_writable(path, sources)
        yield
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror or error}") from error


def _check_writable(path: Path, sources: tuple[Path, ...]) -> None:
    """Raise InvalidInput for a path that no output may replace, or without its folder."""
    from dbp.job.spec.load import nearest_file
    from dbp.train.report.run_files import OWN_FILES, SPEC

    if not path.name:
        raise InvalidInput(f"{str(path)!r} names no file that can be written; name one in it")
    if path.exists() and any(s.exists() and path.samefile(s) for s in sources):
        raise InvalidInput(f"{path}: is an input of this command; choose another file for -o")
    if path.name in OWN_FILES and (path.parent / SPEC).is_file():
        raise InvalidInput(
            f"{path}: belongs to the run in {path.parent}; choose another file for -o"
        )
    if not path.parent.exists():
        make = f"make it with `mkdir -p {shlex.quote(str(path.parent))}`"
        hint = nearest_file(str(path.parent))
        raise InvalidInput(f"{path}: cannot be written: no such folder; {make}{hint}")


def time_text(seconds: float | None) -> str:
    """Return a Unix time for people, in UTC; a dash for none."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def job_content(job: Job) -> JsonObject:
    """Return a job as JSON values."""
    from dbp.job.job_json import record_to_json

    return {
        "id": job.id,
        "state": job.state.value,
        "workers": job.workers,
        "attempt": job.attempt,
        "create_time": job.create_time,
        "start_time": job.start_time,
        "end_time": job.end_time,
        "waiting_reason": job.waiting_reason,
        "conditions": [record_to_json(condition) for condition in job.conditions],
        "report_time": job.report_time,
        "retry_time": job.retry_time,
        "failures": job.failures,
        "checkpoint_step": job.checkpoint_step,
        "attached": job.attached,
        "host": job.host,
        "spec_digest": job.spec_digest,
        "progress": None if job.progress is None else progress_content(job.progress),
        "latest_parameters": None
        if job.latest_parameters is None
        else version_content(job.latest_parameters),
        "failure": None if job.failure is None else record_to_json(job.failure),
        "previous_failure": None
        if job.previous_failure is None
        else record_to_json(job.previous_failure),
        "best": None if job.best is None else record_to_json(job.best),
        "best_restored": job.best_restored,
        "end_reason": job.end_reason,
        "notes": list(job.notes),
        "owner": job.owner,
    }


def progress_content(progress: ProgressReport) -> JsonObject:
    """Return progress as JSON values."""
    from dbp.job.job_json import record_to_json

    return record_to_json(progress, leave_out={"observe_time", "epoch_end"})


def version_content(version: Version) -> JsonObject:
    """Return a parameter version as JSON values."""
    return {
        "version": version.version,
        "step": version.step,
        "attempt": version.attempt,
        "digest": version.digest,
        "size_bytes": version.size_bytes,
        "publish_time": version.publish_time,
        "previous_digest": version.previous_digest,
        "final": version.final,
    }


def label_content(move: LabelMove) -> JsonObject:
    """Return the JSON of a label's last move."""
    now, before = move.version or None, move.previous or None
    return {"label": move.label, "version": now, "previous": before, "time": move.time}


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows as aligned columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def first_of(items: Iterable[T], limit: int) -> tuple[list[T], bool]:
    """Return at most ``limit`` items, and whether there are more."""
    found = list(itertools.islice(items, limit + 1))
    return found[:limit], len(found) > limit


def note_more(shown: int, noun: str, *, filters: str = "") -> None:
    """Print on stderr that a listing was cut, and the options that show more of it."""
    options = f"--limit {2 * shown}{filters}"
    cut = f"{count_text(shown, noun)} shown, newest first; there are more"
    echo(f"note: {cut}: {options}", err=True)


def figures_text(metrics: Mapping[str, float]) -> str:
    """Return the loss and the last metric of a report as text."""
    wanted = [
        "training_loss",
        *(name for name in metrics if name.startswith("validation_") and "loss" not in name),
    ]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in wanted if name in metrics)


def can_draw(environ: Mapping[str, str]) -> bool:
    """Return whether a terminal can move its cursor, as its type in ``$TERM`` says."""
    return environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
