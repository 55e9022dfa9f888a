"""JSON files that carry their own SHA-256, so that damage to them is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from dbp.errors import DataLoss
from dbp.json_value import JsonObject
from dbp.storage.atomic_file import read_json, replace_unsynced

_SEAL: Final = "sha256"


def write_sealed(path: Path, value: JsonObject) -> None:
    """Replace a file atomically, without fsync; OSError."""
    replace_unsynced(path, json.dumps({**value, _SEAL: _digest(value)}).encode())


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return the object in a file; None if there is no file. DataLoss: it is damaged."""
    value = read_json(path)
    if value is not None and value.pop(_SEAL, None) != _digest(value):
        raise DataLoss(f"{path}: damaged: its content does not match its SHA-256")
    return value


def _digest(value: JsonObject) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
