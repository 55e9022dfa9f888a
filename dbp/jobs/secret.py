"""Secrets that identify attempts; only their hashes are stored."""

from __future__ import annotations

import secrets
from hashlib import sha256


def new_secret() -> tuple[str, bytes]:
    """Return a secret of 256 random bits, and its hash."""
    secret = secrets.token_urlsafe(32)
    return secret, hash_secret(secret)


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256; a random secret of 256 bits needs no slow hash."""
    return sha256(secret.encode()).digest()
