"""Describe an exception raised by the code of a plug-in: its kind, text and place."""

from __future__ import annotations

import traceback


def is_plugin(component: type[object]) -> bool:
    """Return whether a component's class comes from another package than dbp."""
    return component.__module__.partition(".")[0] != "dbp"


def fault_text(error: BaseException) -> str:
    """Return ``AssertionError: text (/path/file.py:12, in forward)`` for an exception.

    An exception without a text shows the line of code that raised it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    kind = type(error).__name__
    if not frames:
        return f"{kind}: {error}"
    place = frames[-1]
    text = (str(error).strip().splitlines() or [f"`{place.line}`"])[0]
    return f"{kind}: {text} ({place.filename}:{place.lineno}, in {place.name})"
