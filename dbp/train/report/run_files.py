"""Names of the files in a run folder, and the state of the run that they show.

``dbp.train.report.run_folder`` writes them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dbp.errors import Conflict, InvalidFile
from dbp.job.job_json import decode_outcome, record_to_json
from dbp.job.spec.resolve import digest_of
from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject, JsonValue
from dbp.option_names import either, option
from dbp.storage.atomic_file import make_folder, sync_folder, write_file
from dbp.storage.checkpoints import CHECKPOINTS
from dbp.train.report.run_lock import LOCK

SPEC: Final = "spec.json"
METRICS: Final = "metrics.jsonl"
PARAMETERS: Final = "parameters.safetensors"
RESULT: Final = "result.json"
OWN_FILES: Final = (RESULT, PARAMETERS, METRICS, SPEC)


def make_new(path: Path) -> Path:
    """Make a new folder of this name; if it exists, append the first free number."""
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with contextlib.suppress(FileExistsError):
            make_folder(candidate.parent)
            candidate.mkdir()
            sync_folder(candidate.parent)
            return candidate
    raise AssertionError("unreachable")


def holds_run(path: Path) -> bool:
    """Return whether the folder contains a run, finished or not."""
    return any(os.path.lexists(path / name) for name in (*OWN_FILES, CHECKPOINTS))


def check_free(path: Path, *, earlier: bool) -> None:
    """Raise Conflict unless the folder is empty, except for its lock."""
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
    """Return whether a run writes files of this name, or temporary files for them."""
    temporary = any(name.startswith(f".{own}.") for own in OWN_FILES)
    return name in (*OWN_FILES, CHECKPOINTS, LOCK) or temporary


def written_spec_digest(path: Path) -> str:
    """Return the digest of the spec file in a run folder; "" if it is unreadable."""
    try:
        return digest_of(json.loads((path / SPEC).read_text()))
    except (OSError, ValueError):
        return ""


def read_outcome(folder: Path) -> RunOutcome | None:
    """Read ``result.json``; None if the run is unfinished, InvalidFile if it is unreadable."""
    path = folder / RESULT
    try:
        return decode_outcome(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InvalidFile(f"{path}: unreadable: {error}") from error


def write_outcome(folder: Path, outcome: RunOutcome) -> None:
    """Write ``result.json``; any rank may do so."""
    fields = record_to_json(outcome, local=True)
    write_file(folder / RESULT, [json_text(without_nan(fields))])


def json_text(document: JsonObject) -> bytes:
    """Return a document as the bytes of a JSON file."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def without_nan(fields: JsonObject) -> dict[str, JsonValue]:
    """Replace NaN and infinities, which JSON does not have, by None (null)."""
    return {name: _without_nan(value) for name, value in fields.items()}


def _without_nan(value: JsonValue) -> JsonValue:
    if isinstance(value, Mapping):
        return without_nan(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def ended_by(line: bytes, step: int) -> bool:
    """Return whether a line of metrics.jsonl belongs to an epoch that ended by ``step``."""
    try:
        figures = json.loads(line)
        return "status" not in figures and int(figures["step"]) <= step
    except (ValueError, KeyError, TypeError):  # incomplete: the process was killed
        return False


def disturbances(progress: ProgressReport) -> dict[str, int]:
    """Return the numbers of skipped mini-batches and roll-backs, without zeros."""
    found = {
        "skipped": progress.skipped_in_epoch,
        "rollbacks": progress.rollbacks,
        "rolled_back_to": progress.rolled_back_to,
    }
    return {name: count for name, count in found.items() if count}
