"""Check the page size and the page token of a request for a list (AIP-158)."""

from __future__ import annotations

from typing import Final

from dbp.errors import InvalidInput

MAX_PAGE_SIZE: Final = 1_000

_SHOWN: Final = 80
_MAX_DIGITS: Final = 18


def page_size(asked: int, default: int) -> int:
    """Return the entries of a page: ``default`` for 0, at most MAX_PAGE_SIZE; InvalidInput."""
    if asked < 0:
        raise InvalidInput(
            f"page_size: must be >= 0, got {asked}; 0 means {default}, the most are "
            f"{MAX_PAGE_SIZE:,}"
        )
    return min(asked or default, MAX_PAGE_SIZE)


def number_of(token: str) -> int | None:
    """Return the number in a page token, None for an empty one; InvalidInput."""
    if not token:
        return None
    if not (token.isascii() and token.isdecimal() and len(token) <= _MAX_DIGITS):
        raise unknown_token(token)
    return int(token)


def unknown_token(token: str) -> InvalidInput:
    """Return the error for a token that this service did not issue."""
    return InvalidInput(
        f"page_token: not from this service, got {token[:_SHOWN]!r}; send next_page_token of "
        "the page before, or none for the first page"
    )
