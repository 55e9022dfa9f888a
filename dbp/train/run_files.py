"""The files of a run folder: names, ownership, and the state of the run they show.

``dbp.train.run_folder`` writes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dbp.errors import Conflict
from dbp.job.resolved import digest_of
from dbp.option_names import either, option
from dbp.train.run_lock import LOCK
from dbp.train.sink import Outcome, Progress
from dbp.whole_file import make_folder, sync_folder, write_whole

SPEC: Final = "spec.json"
METRICS: Final = "metrics.jsonl"
PARAMETERS: Final = "parameters.safetensors"
RESULT: Final = "result.json"
CHECKPOINTS: Final = "checkpoints"
OWN_FILES: Final = (RESULT, PARAMETERS, METRICS, SPEC)


def make_new(path: Path) -> Path:
    """Make a new folder of this name, or of this name with the first free number appended."""
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with contextlib.suppress(FileExistsError):
            make_folder(candidate.parent)
            candidate.mkdir()
            sync_folder(candidate.parent)
            return candidate
    raise AssertionError("unreachable")


def holds_run(path: Path) -> bool:
    """Whether a run has been here, whatever became of it."""
    return any(os.path.lexists(path / name) for name in (*OWN_FILES, CHECKPOINTS))


def check_free(path: Path, *, earlier: bool) -> None:
    """Raise Conflict unless the folder is empty but for its lock."""
    names = {entry.name for entry in path.iterdir()}
    foreign = sorted(name for name in names if not _is_own(name))
    if foreign:
        raise Conflict(
            f"{path}: holds other files ({', '.join(foreign[:3])}); choose an empty folder"
        )
    if earlier:
        state = "a run that has ended" if RESULT in names else "a run that has not ended"
        replace = f"add {option('overwrite')} to replace it"
        resume = f", or continue it with: dbp train --resume {shlex.quote(str(path))}"
        remedy = either(f"{replace}{resume}", f"or {replace}")
        raise Conflict(f"{path}: holds {state}; choose another folder, {remedy}")


def _is_own(name: str) -> bool:
    """Whether a run makes files of this name, the temporary ones of ``write_whole`` too."""
    temporary = any(name.startswith(f".{own}.") for own in OWN_FILES)
    return name in (*OWN_FILES, CHECKPOINTS, LOCK) or temporary


def written_spec_digest(path: Path) -> str:
    """The digest of the spec in a run folder as it was written, "" if it is unreadable."""
    try:
        return digest_of(json.loads((path / SPEC).read_text()))
    except (OSError, ValueError):
        return ""


def write_verdict(folder: Path, outcome: Outcome) -> None:
    """Write ``result.json``, from whichever rank can still do so."""
    fields = dataclasses.asdict(outcome)
    write_whole(folder / RESULT, [json_text(without_nan(fields))])


def json_text(document: Mapping[str, Any]) -> bytes:
    """A document as the folder's JSON files hold it."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def without_nan(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with null for NaN and infinities, which JSON does not have."""
    return {name: _without_nan(value) for name, value in fields.items()}


def _without_nan(value: object) -> object:
    if isinstance(value, Mapping):
        return without_nan(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def ended_by(line: bytes, step: int) -> bool:
    """Whether a line of figures is that of an epoch which ended by this step."""
    try:
        figures = json.loads(line)
        return "status" not in figures and int(figures["step"]) <= step
    except (ValueError, KeyError, TypeError):  # cut off when its process died
        return False


def disturbances(progress: Progress) -> dict[str, int]:
    """Mini-batches left out in the epoch, and roll-backs before it; nothing as a rule."""
    found = {
        "skipped": progress.skipped,
        "rollbacks": progress.rollbacks,
        "rolled_back_to": progress.rolled_back_to,
    }
    return {name: count for name, count in found.items() if count}
