"""Tokens are stored hashed, survive a restart, and end when they expire or are revoked."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dbp.access.roles import Role
from dbp.access.tokens import REMEMBERED_SECONDS, TokenInfo, TokenStore
from dbp.errors import DataLoss, InvalidInput, NotFound, Unavailable


class Clock:
    """Time that a test sets."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def store(folder: Path, clock: Clock | None = None) -> TokenStore:
    return TokenStore(folder / "access", "me", clock=clock or Clock())


def found(tokens: TokenStore, token: str) -> TokenInfo:
    """The entry of a token that is known."""
    entry = tokens.find(token)
    assert entry is not None
    return entry


def test_the_owner_has_an_admin_token_in_a_private_file_from_the_first_start(
    tmp_path: Path,
) -> None:
    tokens = store(tmp_path)

    entry = found(tokens, tokens.owner_file.read_text().strip())

    assert (entry.id, entry.owner, entry.role) == ("owner", "me", Role.ADMIN)
    assert stat.S_IMODE(tokens.owner_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(tokens.owner_file.parent.stat().st_mode) == 0o700
    assert store(tmp_path).find(tokens.owner_file.read_text().strip()) == entry, "it stays"


def test_no_file_of_the_service_holds_a_created_token(tmp_path: Path) -> None:
    token, _ = store(tmp_path).create(Role.VIEWER, "ann")

    assert token.startswith("dbp1_")
    assert len(token) >= 5 + 43, "256 bits in base64url"
    texts = [path.read_text() for path in (tmp_path / "access").iterdir()]
    assert not any(token.removeprefix("dbp1_") in text for text in texts)


def test_a_token_is_known_after_a_restart_with_role_owner_and_end(tmp_path: Path) -> None:
    clock = Clock()
    token, made = store(tmp_path, clock).create(Role.SUBMITTER, "ann", 60.0)

    entry = found(store(tmp_path, clock), token)

    assert entry == made
    assert (entry.owner, entry.role, entry.expires) == ("ann", Role.SUBMITTER, 1_060.0)
    assert [entry.fault(now) for now in (1_059.9, 1_060.0)] == ["", "expired"]


def test_a_revoked_token_stays_revoked(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    token, made = tokens.create(Role.VIEWER, "ann")

    tokens.revoke(made.id)

    assert found(tokens, token).fault(1_000.0) == "revoked"
    assert found(store(tmp_path), token).fault(1_000.0) == "revoked"
    with pytest.raises(NotFound, match="dbp token list"):
        tokens.revoke("nothing")


def test_a_revoked_token_of_the_owner_is_replaced_at_the_next_start(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    before = tokens.owner_file.read_text()
    tokens.revoke("owner")

    after = store(tmp_path)

    assert after.owner_file.read_text() != before
    assert after.find(before.strip()) is None


def test_an_owner_file_that_others_can_read_is_replaced(tmp_path: Path) -> None:
    tokens = store(tmp_path)
    before = tokens.owner_file.read_text()
    tokens.owner_file.chmod(0o644)

    after = store(tmp_path)

    assert after.owner_file.read_text() != before
    assert stat.S_IMODE(after.owner_file.stat().st_mode) == 0o600
    assert after.find(before.strip()) is None, "others may have read it"


def test_ended_tokens_are_forgotten_in_time(tmp_path: Path) -> None:
    clock = Clock()
    tokens = store(tmp_path, clock)
    token, _ = tokens.create(Role.VIEWER, "ann", 1.0)
    clock.now += REMEMBERED_SECONDS

    tokens.create(Role.VIEWER, "bob")
    assert tokens.find(token) is not None

    clock.now += 2.0
    tokens.create(Role.VIEWER, "eve")
    assert tokens.find(token) is None


@pytest.mark.parametrize("owner", ["", "a b", "a/b", "a\x1b[2J", "a\n", "x" * 65])
def test_an_owner_that_could_mislead_is_refused(tmp_path: Path, owner: str) -> None:
    with pytest.raises(InvalidInput, match="owner: must be 1 to 64 printable"):
        store(tmp_path).create(Role.VIEWER, owner)


def test_no_token_has_the_role_of_an_attempt(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="role: must be viewer, submitter, admin"):
        store(tmp_path).create(Role.WORKER, "ann")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"tokens": [{"id": 1}]}', json.dumps({"tokens": "x"}), "{}"]
)
def test_a_damaged_file_is_named_and_never_taken_for_an_empty_one(
    tmp_path: Path, text: str
) -> None:
    store(tmp_path)
    (tmp_path / "access" / "tokens.json").write_text(text)

    with pytest.raises(DataLoss, match=r"tokens\.json: damaged"):
        store(tmp_path)


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    store(tmp_path)
    (tmp_path / "access").chmod(0o755)

    with pytest.raises(Unavailable, match="must be closed to other users, has mode 0755"):
        store(tmp_path)
