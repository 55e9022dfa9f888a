"""Select tensors by their names, or by shell patterns of them."""

from __future__ import annotations

import difflib
import re
from bisect import bisect
from collections.abc import Sequence
from fnmatch import translate
from typing import Final

from dbp.errors import InvalidInput, TensorNotFound
from dbp.job.snapshot import Manifest

MAX_PATTERNS: Final = 1_000
MAX_CHARACTERS: Final = 512

_NEAREST: Final = 5
_COMPARED: Final = 1_000
# What compiling a pattern takes, in names matched.
_COMPILING: Final = 1_000


def check_patterns(patterns: Sequence[str]) -> None:
    """Raise InvalidInput for too many or too long patterns."""
    if len(patterns) > MAX_PATTERNS:
        raise InvalidInput(
            f"tensors: at most {MAX_PATTERNS:,} patterns are allowed, got {len(patterns):,}; "
            "use fewer that match more"
        )
    for place, pattern in enumerate(patterns):
        if len(pattern) > MAX_CHARACTERS:
            raise InvalidInput(
                f"tensors[{place}]: at most {MAX_CHARACTERS} characters are allowed, got "
                f"{len(pattern):,}; use * for a part of the name"
            )


def work_of(stored: Manifest, patterns: Sequence[str]) -> int:
    """Return how much work matching is, in names matched."""
    return len(patterns) * (len(stored.tensors) + _COMPILING)


def matching(stored: Manifest, patterns: Sequence[str]) -> set[str]:
    """Return the names of the tensors that any pattern matches.

    A tensor's whole name means that tensor, whatever characters it has. TensorNotFound where a
    pattern matches nothing.
    """
    names = [tensor.name for tensor in stored.tensors]
    known, found = set(names), set[str]()
    for pattern in dict.fromkeys(patterns):
        if pattern in known:
            found.add(pattern)
            continue
        matched = _matched(pattern, names)
        if not matched:
            raise _not_found(stored, pattern, names)
        found.update(matched)
    return found


def _matched(pattern: str, names: Sequence[str]) -> list[str]:
    if not any(character in pattern for character in "*?["):
        return []
    match = re.compile(translate(pattern)).match
    return [name for name in names if match(name)]


def _not_found(stored: Manifest, pattern: str, names: list[str]) -> TensorNotFound:
    if len(names) > _COMPARED:  # those that are near in the alphabet
        names = sorted(names)
        start = max(0, bisect(names, pattern) - _COMPARED // 2)
        names = names[start : start + _COMPARED]
    close = difflib.get_close_matches(pattern[:64], names, n=_NEAREST, cutoff=0.0)
    return TensorNotFound(
        f"tensors: {pattern[:64]!r} matches none; nearest: {', '.join(close)}",
        job=stored.metadata.get("dbp.job", ""),
        version=stored.metadata.get("dbp.version", ""),
        nearest=", ".join(close),
    )
