"""Limit of the bytes that readers read of a file: all of it, or its beginning alone."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

# Bytes of the beginning of a file that are read; None: the whole file. Readers that take more
# than a header then describe the samples that they find there.
HEAD: Final[ContextVar[int | None]] = ContextVar("HEAD", default=None)
