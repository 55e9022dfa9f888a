"""The tokens of a service: created, listed, revoked; stored hashed in ``tokens.json``.

A token has 256 random bits, so its SHA-256 needs neither salt nor slowness. The file is
replaced atomically; a service reads it again on request.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from dbp.access.private_folder import check_private, make_private
from dbp.access.roles import TOKEN_ROLES, Role
from dbp.errors import AlreadyExists, DataLoss, InvalidInput, NotFound, Unavailable
from dbp.storage.atomic_file import read_json, write_json, write_private

PREFIX: Final = "dbp1_"
OWNER_ID: Final = "owner"
MAX_TOKENS: Final = 10_000
MAX_OWNER: Final = 64
# How long a revoked or expired token is still listed, and named in the answer to its callers.
REMEMBERED_SECONDS: Final = 90 * 24 * 3600.0


@dataclass(frozen=True)
class TokenInfo:
    """All that is stored of a token.

    Attributes:
        id: Names it in lists, in the audit log and to ``revoke``.
        sha256: Of the token, in hexadecimal.
        expires: Unix seconds; None: never.
        revoked: When it was revoked; None: it was not.
    """

    id: str
    sha256: str
    role: Role
    owner: str
    created: float
    expires: float | None = None
    revoked: float | None = None

    def fault(self, now: float) -> str:
        """Return why the token is refused now: "revoked", "expired", or ""."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else ""


@final
class TokenStore:
    """The tokens of one service."""

    def __init__(
        self,
        folder: Path,
        owner: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the tokens in a folder, which is made; make the token of the service's owner.

        Raises DataLoss if the file is damaged, OSError.
        """
        self._folder = make_private(folder)
        self._clock = clock
        self._by_hash: dict[str, TokenInfo] = {}
        self.reload()
        self._keep_owner(owner)

    @property
    def owner_file(self) -> Path:
        """File with the token of the service's owner."""
        return self._folder / "owner.token"

    def reload(self) -> None:
        """Read the file again; DataLoss: it is damaged, and the tokens stay as they were."""
        found = read_json(self._file)
        if found is None:
            return
        try:
            tokens = [_token(entry) for entry in found["tokens"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataLoss(f"{self._file}: damaged: {error!r}") from error
        self._by_hash = {token.sha256: token for token in tokens}

    def find(self, token: str) -> TokenInfo | None:
        """Return the entry of a token, revoked or not; None: it is none of this service's."""
        return self._by_hash.get(hash_of(token))

    def get(self, token_id: str) -> TokenInfo | None:
        """Return the token with an id."""
        return next((t for t in self._by_hash.values() if t.id == token_id), None)

    def list(self) -> list[TokenInfo]:
        """Return all tokens, the oldest first."""
        return sorted(self._by_hash.values(), key=lambda token: token.created)

    def create(
        self, role: Role, owner: str, seconds: float | None = None
    ) -> tuple[str, TokenInfo]:
        """Return a new token, which is not stored, and its entry, which is durable.

        Args:
            role: Any but WORKER.
            owner: Name of the user who gets it.
            seconds: Time until it expires; None: never.

        Raises InvalidInput, AlreadyExists where there are too many, OSError.
        """
        if role not in TOKEN_ROLES:
            raise InvalidInput(f"role: must be {', '.join(TOKEN_ROLES)}, got {role.value}")
        check_owner(owner)
        now = self._clock()
        kept = [t for t in self._by_hash.values() if not _forgotten(t, now)]
        if len(kept) >= MAX_TOKENS:
            raise AlreadyExists(f"there are {MAX_TOKENS} tokens; revoke some")
        token = new_token()
        expires = None if seconds is None else now + seconds
        entry = TokenInfo(_new_id(kept), hash_of(token), role, owner, now, expires)
        self._write([*kept, entry])
        return token, entry

    def revoke(self, token_id: str) -> TokenInfo:
        """Refuse a token from now on; durable on return. NotFound; the owner's is replaced."""
        found = self.get(token_id)
        if found is None:
            raise NotFound(f"there is no token {token_id!r}; dbp token list shows all")
        if found.revoked is None:
            found = replace(found, revoked=self._clock())
            self._write([found if t.id == token_id else t for t in self._by_hash.values()])
        return found

    @property
    def _file(self) -> Path:
        return self._folder / "tokens.json"

    def _keep_owner(self, owner: str) -> None:
        """Make the owner's token unless its file holds a valid one."""
        try:
            check_private(self.owner_file)
            found = self.find(self.owner_file.read_text().strip())
        except (OSError, ValueError, Unavailable):
            found = None
        now = self._clock()
        if found is not None and not found.fault(now):
            return
        token = new_token()
        entry = TokenInfo(OWNER_ID, hash_of(token), Role.ADMIN, owner, now)
        self._write([*(t for t in self._by_hash.values() if t.id != OWNER_ID), entry])
        write_private(self.owner_file, f"{token}\n".encode())

    def _write(self, tokens: Iterable[TokenInfo]) -> None:
        tokens = list(tokens)
        write_json(self._file, {"tokens": [asdict(token) for token in tokens]})
        self._by_hash = {token.sha256: token for token in tokens}


def new_token() -> str:
    """Return a token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return the SHA-256 of a token in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def check_owner(owner: str) -> None:
    """Raise InvalidInput unless this may be the name of an owner of tokens and jobs."""
    if not (
        0 < len(owner) <= MAX_OWNER and owner.isprintable() and not set(owner) & {"/", " "}
    ):
        raise InvalidInput(
            f"owner: must be 1 to {MAX_OWNER} printable characters without space and '/', got "
            f"{owner[:MAX_OWNER]!r}"
        )


def _token(entry: Any) -> TokenInfo:
    return TokenInfo(**{**entry, "role": Role(entry["role"])})


def _forgotten(token: TokenInfo, now: float) -> bool:
    ended = [when for when in (token.expires, token.revoked) if when is not None]
    return bool(ended) and min(ended) + REMEMBERED_SECONDS < now


def _new_id(tokens: Iterable[TokenInfo]) -> str:
    known = {token.id for token in tokens}
    while (made := secrets.token_hex(4)) in known:
        pass
    return made
