"""Options of `dbp train` for resuming a run and changing its length."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dbp.errors import InvalidInput

if TYPE_CHECKING:
    from dbp.job.state import RunOutcome
    from dbp.train.state.continuation import Terms
    from dbp.train.state.extension import Longer

_OPTIONS: Final = (
    click.option(
        "--resume", "resumed", type=click.Path(path_type=Path), metavar="RUN",
        help="Continue the run in this folder, with the same or another number of workers.",
    ),
    click.option(
        "--epochs", type=click.IntRange(1),
        help="Override train.epochs and train.steps; with --resume: the new length of RUN, "
        "counted from its first epoch.",
    ),
    click.option(
        "--steps", type=click.IntRange(1),
        help="Override train.epochs and train.steps; with --resume: the new length of RUN, "
        "counted from its first step.",
    ),
    click.option(
        "--max-seconds", type=click.FloatRange(0, min_open=True),
        help="Override train.max_seconds: stop, at the end of a step, when this command has "
        "trained for this long. The run can be resumed; its planned length and learning rate "
        "do not change.",
    ),
    click.option(
        "--schedule", type=click.Choice(["keep", "stretch"]),
        help="With --resume and a new length, where the learning rate depends on the length. "
        "keep: follow the old plan, then use its last value; stretch: plan the remaining steps "
        "for the new length.",
    ),
    click.option(
        "--new-data", is_flag=True,
        help="With --resume: accept that the data of RUN have changed. Rows held out for "
        "validation are selected again.",
    ),
)  # fmt: skip


def resume_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of this module to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def folder_to_resume(resumed: Path | None, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the spec and the folder of the run to resume, or of a new one.

    Raises UsageError for options that do not fit together.
    """
    if resumed is None:
        if asked["folder"] is not None:
            check_not_of_service(asked["folder"])
        if asked["spec"] is None:
            raise click.UsageError("needs a SPEC, or --resume RUN")
        for name in ("new_data", "schedule"):
            if asked[name]:
                raise click.UsageError(f"--{name.replace('_', '-')} is for --resume RUN")
        return {"resume": False}
    for name in ("spec", "folder", "overwrite"):
        if asked[name]:
            option = "SPEC" if name == "spec" else "--run" if name == "folder" else f"--{name}"
            raise click.UsageError(f"--resume uses the settings of RUN; remove {option}")
    from dbp.train.report.run_files import SPEC

    check_not_of_service(resumed)
    return {"spec": resumed / SPEC, "folder": resumed, "resume": True}


def check_not_of_service(folder: Path) -> None:
    """Raise InvalidInput for a folder of a service's job: only the service continues it."""
    from dbp.storage.state_folder import job_of

    job_id = job_of(folder)
    if job_id is not None:
        raise InvalidInput(
            f"{folder}: belongs to job {job_id} of a service; continue the job with: dbp retry "
            f"{job_id} (if it is PAUSED: dbp resume {job_id}), or choose another folder"
        )


def longer_of(asked: dict[str, Any]) -> Longer:
    """Return the length options of the command line."""
    from dbp.train.state.extension import Longer

    return Longer(**{field.name: asked[field.name] for field in dataclasses.fields(Longer)})


def read_document(
    path: Path, resumed: Path | None, longer: Longer, *, new_data: bool
) -> object:
    """Return the document of a spec with the length from the command line; InvalidInput.

    ``resumed``: the folder of the run to resume.
    """
    from dbp.job.spec.check import check
    from dbp.job.spec.load import located, parse_file

    if resumed is not None:
        from dbp.train.state.extension import check_resumable, extended

        check_resumable(resumed, longer)
        document = parse_file(path)
        with located(path):
            return extended(document, resumed, longer, new_data=new_data)
    document = parse_file(path)
    with located(path):
        check(document)  # also the fields that the command line overrides
    return longer.of(document)


def resume_terms(folder: Path, longer: Longer, *, new_data: bool) -> Terms:
    """Return the changes that the resumed run accepts."""
    from dbp.train.report.run_files import written_spec_digest
    from dbp.train.state.continuation import Terms

    digest = written_spec_digest(folder)
    return Terms(new_data=new_data, spec_digest=digest, extended=longer.length)


def next_command(outcome: RunOutcome, folder: Path) -> str:
    """Return the command that continues the run; "" if none does."""
    from dbp.storage.checkpoints import CHECKPOINTS

    resume = f"dbp train --resume {shlex.quote(str(folder))}"
    if outcome.reason == "NOT_WRITTEN":
        return f"free some space on the disk, then continue with:  {resume}"
    if outcome.status == "stopped":
        return f"continue with:  {resume}"
    if outcome.status != "succeeded":
        return ""
    if outcome.reason == "time":
        return f"continue with:  {resume} --max-seconds SECONDS"
    if outcome.reason in ("epochs", "steps") and any(folder.glob(f"{CHECKPOINTS}/step-*")):
        return f"train longer: {resume} --{outcome.reason} N"
    return ""
