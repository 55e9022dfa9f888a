"""Find the trained parameters of a run folder, or explain why it has none, with a remedy."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
from pathlib import Path

from dbp.errors import InvalidFile, InvalidInput
from dbp.job.snapshot import decode_header, header_length, step_of
from dbp.job.spec.load import nearest_file
from dbp.job.state import RunOutcome
from dbp.quantities import count_text
from dbp.storage.checkpoints import CHECKPOINTS
from dbp.train.plan import TIME
from dbp.train.report.run_files import PARAMETERS, RESULT, SPEC, holds_run, read_outcome
from dbp.train.report.run_lock import LOCK
from dbp.train.state.checkpoint_folder import CheckpointFolder

SHOWN_FILES = 5


def parameters_of(folder: Path) -> Path:
    """Return the parameter file of a run folder.

    Raises InvalidFile if there is none. The error names the content of the folder, such as a
    checkpoint, and the command that continues the run.
    """
    path = folder / PARAMETERS
    if path.is_file():
        return path
    reason = _run_without(folder) if holds_run(folder) else _no_run(folder)
    raise InvalidFile(f"{folder}: holds no {PARAMETERS}: {reason}")


def check_run(folder: Path) -> None:
    """Raise InvalidInput, with the content of the folder, unless it contains a run."""
    if (folder / SPEC).is_file():
        return
    if not folder.exists():
        raise InvalidInput(f"{folder}: no such folder{nearest_file(str(folder))}")
    if not folder.is_dir():
        hint = f": {folder.parent}" if holds_run(folder.parent) else ""
        raise InvalidInput(f"{folder}: is a file; name the folder of a run{hint}")
    runs = _runs_in(folder, SPEC)
    found = _enclosing_run(folder) or (f"it holds folders of runs: {runs}" if runs else "")
    more = f"; {found}" if found else ""
    raise InvalidInput(f"{folder}: contains no run ({SPEC} is missing){more}")


def is_unfinished(folder: Path) -> bool:
    """Return whether a run folder shows no end: its run continues, or was cut off."""
    return (folder / SPEC).is_file() and not (folder / RESULT).is_file()


def stored_step(path: Path) -> int:
    """Return the step in the metadata of a run's parameter file; raises InvalidFile."""
    with path.open("rb") as file:
        length = header_length(file.read(8), str(path))
        return step_of(decode_header(file.read(length), str(path)), 0)


def _run_without(folder: Path) -> str:
    """Return why a run has no parameters, and the remedy."""
    quoted = shlex.quote(str(folder))
    if holder := _training_process(folder):
        return f"the run is training now ({holder}); wait for its end"
    outcome = _outcome(folder)
    state, steps = _state(outcome), [s for _, s in _checkpoints(folder).newest_first()]
    succeeded = outcome is not None and outcome.status == "succeeded"
    if steps and (not succeeded or (outcome is not None and outcome.reason == TIME)):
        command = f"dbp train --resume {quoted}"
        if succeeded:  # up to its time limit
            command = f"dbp train --resume {quoted} --max-seconds SECONDS"
        return (
            f"{state}; its newest checkpoint is of step {steps[0]:,}; continue the run, which "
            f"writes them at its end: {command}"
        )
    # A run that has taken all of its steps can only be made longer.
    state += "" if steps else ", and has no checkpoint"
    if (folder / SPEC).is_file():
        spec = shlex.quote(str(folder / SPEC))
        return f"{state}; train again: dbp train {spec} --run NEW_FOLDER"
    return state


def _outcome(folder: Path) -> RunOutcome | None:
    """Return the outcome of a run; None if result.json is absent or unreadable."""
    try:
        return read_outcome(folder)
    except InvalidFile:
        return None


def _state(outcome: RunOutcome | None) -> str:
    """Return how a run without parameters ended."""
    if outcome is None:
        return "the run has not ended"
    done = f"after {count_text(outcome.step, 'step')}"
    match outcome.status:
        case "failed":
            return f"the run failed {done} ({_first_line(outcome.message)})"
        case "stopped":
            return f"the run was stopped {done}"
        case _:
            return f"the run ended {done}"


def _first_line(message: str) -> str:
    return next(iter(message.splitlines()), "").rstrip(".") or "no reason is on record"


def _checkpoints(folder: Path) -> CheckpointFolder:
    return CheckpointFolder(folder / CHECKPOINTS)


def _training_process(folder: Path) -> str:
    """Return the process that the lock names, "" if there is none or it has died here."""
    try:
        text = (folder / LOCK).read_text(errors="replace").strip()
        _, pid, _, host = text.split(maxsplit=3)
        number = int(pid)
        if host == socket.gethostname():
            os.kill(number, 0)
    except PermissionError:  # another user's process, or lock
        return "by another user"
    except (OSError, ValueError, OverflowError):
        return ""
    return text


def _no_run(folder: Path) -> str:
    """Describe the content of a folder without a run."""
    if found := _enclosing_run(folder):
        return found
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(entry.name for entry in folder.glob("*.safetensors"))
    if names:
        more = ", ..." if len(names) > SHOWN_FILES else ""
        return f"it is no run folder; name a file in it: {', '.join(names[:SHOWN_FILES])}{more}"
    runs = _runs_in(folder, PARAMETERS)
    return "it is no run folder" + (f", but holds some: {runs}" if runs else "")


def _enclosing_run(folder: Path) -> str:
    """Return the advice to name the run whose checkpoints a folder holds; "" if it is none."""
    for parent in folder.absolute().parents[:2]:
        if holds_run(parent) and CheckpointFolder(parent / CHECKPOINTS).newest_first():
            return f"it belongs to the checkpoints of a run; name the run folder: {parent}"
    return ""


def _runs_in(folder: Path, file: str) -> str:
    """Return the names of the first runs in a folder that have a file; "" if there are none."""
    runs = [entry.parent.name for entry in sorted(folder.glob(f"*/{file}"))]
    more = ", ..." if len(runs) > SHOWN_FILES else ""
    return ", ".join(runs[:SHOWN_FILES]) + more
