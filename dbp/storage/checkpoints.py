"""Find and verify checkpoints in a folder: names, manifests and digests, without tensors.

``dbp.train.state`` writes and reads them; a service only asks which one is the newest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dbp.errors import InvalidFile
from dbp.quantities import count_text
from dbp.storage.atomic_file import sync_folder

CHECKPOINTS: Final = "checkpoints"  # of a run folder
FORMAT: Final = 1
FILES: Final = ("parameters.safetensors", "state.safetensors", "position.json")
MANIFEST: Final = "manifest.json"
NEWER: Final = ".newer"
MAX_JSON_BYTES: Final = 64 << 20

_NAME: Final = re.compile(r"step-(\d{12,})(?:\.newer)?")


def step_named(name: str) -> int | None:
    """Return the step of a checkpoint folder of this name; None for other names."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def newest_first(folder: Path) -> list[tuple[Path, int]]:
    """Return folder and step of all checkpoints, newest first, sound or damaged.

    A replacement comes before the checkpoint that it replaces.
    """
    if not folder.is_dir():
        return []
    found = [(entry.name, step_named(entry.name)) for entry in folder.iterdir()]
    named = [(step, name) for name, step in found if step is not None]
    return [(folder / name, step) for step, name in sorted(named, reverse=True)]


@dataclass(frozen=True)
class NewestCheckpoint:
    """The step of the newest sound checkpoint of a run, and the damage of newer ones.

    Attributes:
        step: 0 if there is no sound one.
        damaged: A sentence on each newer checkpoint: which file is invalid, and why.
    """

    step: int = 0
    damaged: tuple[str, ...] = ()


def newest_sound(folder: Path) -> NewestCheckpoint:
    """Find the newest checkpoint whose files all match its manifest; read every byte of it.

    Its name is durable on return, so that a record may name it: a run may have been killed
    between the renaming and the sync.
    """
    damaged: list[str] = []
    for path, step in newest_first(folder):
        try:
            check_files(path, step)
            sync_folder(folder)
        except InvalidFile as error:
            damaged.append(str(error))
        except OSError as error:
            damaged.append(f"{path}: cannot be synced: {error.strerror}")
        else:
            return NewestCheckpoint(step, tuple(damaged))
    return NewestCheckpoint(0, tuple(damaged))


def check_files(path: Path, step: int) -> None:
    """Raise InvalidFile unless all files of a checkpoint match its manifest."""
    manifest = read_manifest(path, step)
    for name in FILES:
        verify_file(path / name, manifest)


def is_sound(path: Path, step: int) -> bool:
    """Return whether all files of a checkpoint match its manifest."""
    try:
        check_files(path, step)
    except InvalidFile:
        return False
    return True


def read_manifest(folder: Path, step: int) -> dict[str, Any]:
    """Read and verify the manifest of a checkpoint of this step; raises InvalidFile."""
    path = folder / MANIFEST
    manifest = json_object(path, _read(path))
    if manifest.pop("sha256", None) != digest_of(manifest):
        raise InvalidFile(f"{path}: damaged: its SHA-256 does not match")
    if manifest.get("format") != FORMAT or manifest.get("step") != step:
        raise InvalidFile(f"{folder}: not a checkpoint of step {step} in format {FORMAT}")
    return manifest


def read_file(path: Path, manifest: Any) -> bytes:
    """Read a file and verify it against the manifest; raises InvalidFile."""
    content = _read(path)
    _compare(path, manifest, len(content), hashlib.sha256(content).hexdigest())
    return content


def verify_file(path: Path, manifest: Any) -> None:
    """Verify a file as ``read_file`` does, in memory that does not grow with the file."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
    _compare(path, manifest, size, digest)


def _compare(path: Path, manifest: Any, size: int, digest: str) -> None:
    entry = manifest["files"][path.name]
    if size != entry["bytes"]:
        raise InvalidFile(
            f"{path}: damaged: {count_text(size, 'byte')}, the manifest says {entry['bytes']:,}"
        )
    if digest != entry["sha256"]:
        raise InvalidFile(f"{path}: damaged: its SHA-256 is not that of the manifest")


def digest_of(manifest: Any) -> str:
    """Return the SHA-256 of a manifest as canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def json_object(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON object of a file's content; raises InvalidFile."""
    try:
        table = json.loads(content[: MAX_JSON_BYTES + 1].decode())
        if not isinstance(table, dict):
            raise ValueError("no JSON object")
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path}: damaged: {error}") from error
    return table


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
