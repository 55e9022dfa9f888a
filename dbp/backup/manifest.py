"""The manifest of a backup, ``backup.json``: size and SHA-256 of every file, and its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, final

from dbp.errors import Conflict, DataLoss
from dbp.json_value import JsonObject

FORMAT: Final = 1
_SEAL: Final = "sha256"


@dataclass(frozen=True)
class FileEntry:
    """Size and SHA-256 (hexadecimal) of a file."""

    bytes: int
    sha256: str


@final
@dataclass(frozen=True)
class Manifest:
    """The contents of a backup.

    Attributes:
        dbp: Version of dbp that wrote it.
        schema: Of its database.
        create_time: Of the copied database, in Unix seconds.
        host: Where it was made.
        state: The state folder.
        jobs: Number of jobs with files.
        files: Its files by name, without the manifest.
        links: Targets of its symbolic links by name.
    """

    dbp: str
    schema: int
    create_time: float
    host: str
    state: str
    jobs: int
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.bytes for entry in self.files.values())

    @property
    def digest(self) -> str:
        """SHA-256 over the manifest, and so over the whole backup."""
        return _digest(self._content())

    def encode(self) -> bytes:
        """Return the manifest as JSON that ends with its own digest."""
        return json.dumps({**self._content(), _SEAL: self.digest}).encode()

    def _content(self) -> JsonObject:
        return {"format": FORMAT, **asdict(self)}


def decode(content: bytes, source: str) -> Manifest:
    """Return the manifest in JSON. DataLoss: damaged; Conflict: of a newer dbp."""
    try:
        fields = json.loads(content)
        seal = fields.pop(_SEAL)
        number = fields.pop("format")
        if number != FORMAT:
            raise Conflict(
                f"{source}: a backup of format {number}, this dbp knows {FORMAT}; restore it "
                f"with the dbp that wrote it ({fields.get('dbp')}) or a newer one"
            )
        files = {name: FileEntry(**entry) for name, entry in fields.pop("files").items()}
        manifest = Manifest(**fields, files=files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataLoss(f"{source}: damaged: its manifest cannot be read: {error!r}") from error
    if manifest.digest != seal:
        raise DataLoss(f"{source}: damaged: its manifest does not match its SHA-256")
    return manifest


def _digest(content: JsonObject) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
