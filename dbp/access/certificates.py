"""The table of client certificates: the subject of each, with its owner and role. TOML.

::

    [[client]]
    subject = "CN=ann,O=lab"       # openssl x509 -noout -subject -nameopt RFC2253 -in ann.pem
    owner = "ann"
    role = "submitter"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

from dbp.access.roles import TOKEN_ROLES, Role
from dbp.access.tokens import check_owner
from dbp.errors import InvalidInput

_FIELDS: Final = {"subject", "owner", "role"}


@dataclass(frozen=True)
class Holder:
    """The user of a client certificate."""

    owner: str
    role: Role


@final
class CertificateTable:
    """Holders of client certificates by the subject."""

    def __init__(self, holders: dict[str, Holder]) -> None:
        self._holders = holders

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the table in a file. Raises InvalidInput, which names the entry."""
        try:
            found = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path}: is no table of clients in TOML: {error}") from error
        entries = found.get("client")
        if not isinstance(entries, list) or set(found) != {"client"}:
            raise InvalidInput(f"{path}: must hold tables [[client]] and nothing else")
        holders: dict[str, Holder] = {}
        for number, entry in enumerate(entries, 1):
            where = f"{path}: client {number}"
            subject, holder = _entry(entry, where)
            if subject in holders:
                raise InvalidInput(f"{where}: the subject {subject!r} is there twice")
            holders[subject] = holder
        return cls(holders)

    def find(self, subject: str) -> Holder | None:
        """Return the holder of a certificate; None: the table does not name its subject."""
        return self._holders.get(subject)


def _entry(entry: Any, where: str) -> tuple[str, Holder]:
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise InvalidInput(f"{where}: must have subject, owner and role, and nothing else")
    if not all(isinstance(value, str) and value for value in entry.values()):
        raise InvalidInput(f"{where}: subject, owner and role must be texts")
    if entry["role"] not in TOKEN_ROLES:
        known = ", ".join(TOKEN_ROLES)
        raise InvalidInput(f"{where}: role must be one of {known}, got {entry['role']!r}")
    try:
        check_owner(entry["owner"])
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from error
    return entry["subject"], Holder(entry["owner"], Role(entry["role"]))
