"""Rebuild the rows of a job from the files that its launches and versions left."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

from dbp.errors import DataLoss, InvalidFile
from dbp.job.failure import Failure, FailureReason
from dbp.job.job_json import encode_job
from dbp.job.snapshot import ROLLBACKS, step_of
from dbp.job.spec.resolve import digest_of
from dbp.job.state import Event, EventKind, Job, State
from dbp.job.transitions import advance
from dbp.jobs.connections import hash_secret
from dbp.jobs.job_rows import Row, Rows
from dbp.json_value import JsonObject
from dbp.launch.attempt_files import AttemptFiles
from dbp.storage.atomic_file import read_json
from dbp.storage.state_folder import StateFolder
from dbp.versions.file import BLOCK_BYTES, read_header

_ATTEMPT: Final = "attempt-"


@final
@dataclass(frozen=True)
class LeftAttempt:
    """The newest launch of a job, as its folder shows it.

    ``decided``: the service can find out how it ends, or ended.
    """

    number: int
    launch: Mapping[str, Any]
    document: JsonObject
    decided: bool
    time: float

    @classmethod
    def newest(cls, job_folder: Path) -> Self | None:
        """Return the newest launch whose files can be read; None without one."""
        numbers = [
            int(path.name.removeprefix(_ATTEMPT))
            for path in job_folder.glob(f"{_ATTEMPT}*")
            if path.name.removeprefix(_ATTEMPT).isdecimal()
        ]
        for number in sorted(numbers, reverse=True):
            files = AttemptFiles(job_folder / f"{_ATTEMPT}{number}")
            launch, document = _object(files.launch), _object(files.spec)
            if launch and document and isinstance(launch.get("workers"), int):
                outcome = _object(files.result) or _object(files.old_result) or {}
                decided = not files.exit.exists() or outcome.get("status") == "succeeded"
                return cls(number, launch, document, decided, files.launch.stat().st_mtime)
        return None

    def job(self, job_id: str) -> Job:
        """Return the job of this launch, as if it had just begun."""
        return Job(
            id=job_id,
            spec=self.document,
            spec_digest=digest_of(self.document),
            workers=self.launch["workers"],
            state=State.STARTING,
            create_time=self.time,
            attempt=self.number,
            start_time=self.time,
        )

    def row(self, job_id: str) -> Row:
        """Return the launch's row of the table ``attempts``."""
        secret = hash_secret(str(self.launch.get("secret", "")))
        return {"job": job_id, "attempt": self.number, "secret_hash": {"hex": secret.hex()}}


def as_left(job: Job, attempt: LeftAttempt | None, now: float) -> Job:
    """Return a job whose newest changes may be lost, as its newest launch shows it.

    FAILED with STATE_LOST if no file shows how it ended.
    """
    if job.state.terminal and (attempt is None or attempt.number <= job.attempt):
        return job
    if job.attached and job.state.launched:  # started by hand: it reports again, or is lost
        return job
    begun = dataclasses.replace(
        job,
        state=State.STARTING,
        failure=None,
        end_time=None,
        attempt=max(job.attempt, attempt.number if attempt else 0),
    )
    if attempt is not None and attempt.decided:
        return begun
    message = (
        "the service's database was damaged, and no file shows how the job ended; its "
        f"parameters and checkpoints are kept: dbp retry {job.id}, or submit it again"
    )
    failure = Failure(
        FailureReason.STATE_LOST, message, attempt=begun.attempt, retry_helps=True
    )
    return advance(begun, Event(EventKind.FAILED, now, {"failure": failure}))


def row_of(job: Job) -> Row:
    """Return the row of a job in the table ``jobs``."""
    return {
        "id": job.id,
        "state": job.state.value,
        "sequence": job.sequence,
        "spec": json.dumps(job.spec),
        "record": encode_job(job),
        "end_time": job.end_time,
    }


def left_versions(folder: StateFolder, job: Job) -> tuple[Rows, list[str]]:
    """Return rows of the versions in a job's folder, from their headers, and notes.

    Reads every file. A version whose digest is not the one that the next version names is
    left out.
    """
    rows: list[Row] = []
    notes: list[str] = []
    paths = folder.parameters_folder(job.id).glob("*.safetensors")
    for path in sorted(paths, key=lambda path: (len(path.name), path.name)):
        row = _version_row(path, job)
        if row is None:
            notes.append(f"{path}: not a version of this job, or damaged")
        else:
            rows.append(row)
    _mark_final(rows)
    named = {row["version"]: follower["previous_digest"] for row, follower in _pairs(rows)}
    sound = [row for row in rows if named.get(row["version"], row["digest"]) == row["digest"]]
    notes += [
        f"job {job.id}: version {row['version']}: its digest is not the one that the next "
        "version names"
        for row in rows
        if row not in sound
    ]
    return {"versions": sound, "label_moves": []}, notes


def _mark_final(rows: list[Row]) -> None:
    """Mark the second version of a step as final: only a final one repeats a step."""
    seen = set()
    for row in rows:
        step = (row["attempt"], row["rollbacks"], row["step"])
        row["final"] = row["final"] or step in seen
        seen.add(step)


def _pairs(rows: list[Row]) -> list[tuple[Row, Row]]:
    """Return each version with the next one, where that is kept."""
    by_number = {row["version"]: row for row in rows}
    return [
        (row, by_number[int(str(row["version"])) + 1])
        for row in rows
        if int(str(row["version"])) + 1 in by_number
    ]


def _version_row(path: Path, job: Job) -> Row | None:
    """Return the row of a version's file; None if it is none of this job."""
    try:
        with path.open("rb") as file:
            manifest, data_offset = read_header(file, str(path))
            size = path.stat().st_size
            digest = hashlib.sha256()
            file.seek(0)
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        found = manifest.metadata
        number, latest = int(found["dbp.version"]), job.latest_parameters
        if found["dbp.job"] != job.id or size != data_offset + manifest.size_bytes:
            return None
        return {
            "job": job.id,
            "version": number,
            "step": step_of(manifest, 0),
            "attempt": int(found["dbp.attempt"]),
            "digest": digest.hexdigest(),
            "size_bytes": size,
            "publish_time": path.stat().st_mtime,
            "final": bool(latest and latest.version == number and latest.final),
            "previous_digest": found["dbp.previous_digest"],
            "spec_digest": job.spec_digest,
            "rollbacks": int(found.get(ROLLBACKS, "0")),
            "kept": 1,
        }
    except (OSError, InvalidFile, KeyError, ValueError):
        return None


def _object(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (DataLoss, OSError):
        return None
