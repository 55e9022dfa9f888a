"""Cut a listing at --limit, and say when there is more of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TypeVar

import click

from dbp.quantities import count_text

T = TypeVar("T")


def first_of(items: Iterable[T], limit: int) -> tuple[list[T], bool]:
    """Return at most ``limit`` items, and whether there are more."""
    found = list(itertools.islice(items, limit + 1))
    return found[:limit], len(found) > limit


def note_more(shown: int, noun: str, *, filters: str = "") -> None:
    """Print on stderr that a listing was cut, and the options that show more of it."""
    options = f"--limit {2 * shown}{filters}"
    cut = f"{count_text(shown, noun)} shown, newest first; there are more"
    click.echo(f"note: {cut}: {options}", err=True)
