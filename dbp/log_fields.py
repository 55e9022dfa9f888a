"""Fields of structured logs: job, attempt, rank and request of the work that logs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

NAMES: Final = ("job", "attempt", "rank", "request")

_FIELDS: Final[ContextVar[Mapping[str, str | int]]] = ContextVar(
    "log_fields", default=MappingProxyType({})
)


def current_fields() -> Mapping[str, str | int]:
    """Return the fields of the running task."""
    return _FIELDS.get()


@contextlib.contextmanager
def log_fields(**fields: str | int) -> Iterator[None]:
    """Add fields to all records that are logged in the context, and by tasks made in it."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        # A stream that is given up may be closed by another task, whose fields are its own.
        with contextlib.suppress(ValueError):
            _FIELDS.reset(token)
