"""Check arguments of the client before anything is sent: types, limits, text.

Each function returns the checked value. It raises InvalidType (a TypeError) or InvalidArgument
(a ValueError), which name the argument, its value and the allowed values.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
import reprlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from dbp.errors import InvalidArgument, InvalidType, alternatives
from dbp.job.state import State
from dbp.rpc.credentials import Credentials
from dbp.rpc.limits import INT64_MAX, YEAR_SECONDS


def whole_number(
    name: str, value: object, *, minimum: int = 0, maximum: int = INT64_MAX
) -> int:
    """Return an integer within the limits, both inclusive; numpy's integers are taken."""
    given: Any = value
    try:
        number = operator.index(given)
    except TypeError:
        raise wrong_type(name, "an integer", value) from None
    if isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    if number < minimum:
        raise InvalidArgument(f"{name}: must be >= {minimum}, got {shown(number)}")
    if number > maximum:
        raise InvalidArgument(f"{name}: must be <= {maximum:,}, got {shown(number)}")
    return number


def optional_number(name: str, value: object) -> None:
    """Check that a value is None or an integer of at least 0."""
    if value is not None:
        whole_number(name, value)


def seconds(name: str, value: object, *, maximum: float = YEAR_SECONDS) -> float:
    """Return a duration in seconds from 0 to ``maximum``, which may be infinite."""
    if isinstance(value, timedelta):
        raise wrong_type(name, "seconds as a number", value, "; use .total_seconds()")
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise wrong_type(name, "seconds as a number", value)
    given: Any = value
    if not 0 <= given <= maximum:  # false for NaN, too
        limit = "" if math.isinf(maximum) else f" and <= {maximum:,}"
        raise InvalidArgument(f"{name}: must be >= 0{limit} seconds, got {shown(value)}")
    return float(given)


def text(name: str, value: object) -> str:
    """Return a str that can be sent as UTF-8."""
    if not isinstance(value, str):
        raise wrong_type(name, "a str", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name}: cannot be written as UTF-8: {shown(value)}") from None
    return value


def switch(name: str, value: object) -> bool:
    """Return a truth value: True or False, of Python or numpy."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise wrong_type(name, "True or False", value)
    return bool(value)


def patterns(values: Iterable[object]) -> tuple[str, ...]:
    """Return the name patterns of a ``*patterns`` argument."""
    given = tuple(values)
    for value in given:
        if isinstance(value, list | tuple | set | frozenset):
            hint = '; write patterns one by one ("0.*", "2.*"), or *PATTERNS'
            raise wrong_type("patterns", "str", value, hint)
        text("patterns", value)
    return given  # type: ignore[return-value]


def state(value: State) -> State:
    """Return the state of this name; takes its text, too."""
    try:
        return State(value)
    except ValueError:
        given: object = value
        name = given if isinstance(given, str) else ""
        known = alternatives(name, [known.value for known in State], "states")
        raise InvalidArgument(f"states: unknown {shown(value)}{known}") from None


def path(name: str, value: object) -> str | os.PathLike[str]:
    """Return the path of a file: a str or a ``pathlib.Path``."""
    written = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str | os.PathLike) or not isinstance(written, str):
        raise wrong_type(name, "a path (str or pathlib.Path)", value)
    try:
        usable = bool(written) and "\0" not in written and bool(os.fsencode(written))
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise InvalidArgument(f"{name}: cannot name a file: {shown(written)}")
    return value


def callback(name: str, value: object) -> None:
    """Check that a value is None or can be called."""
    if value is not None and not callable(value):
        raise wrong_type(name, "a function", value)


def wrong_type(name: str, wanted: str, value: object, hint: str = "") -> InvalidType:
    """Return the error for an argument that is not a ``wanted`` (with its article)."""
    kind = type(value).__name__
    got = kind if value is None else f"{kind} {shown(value)}"
    return InvalidType(f"{name}: must be {wanted}, got {got}{hint}")


def shown(value: object) -> str:
    """Return a value's repr, shortened to fit a message."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an int with more digits than Python converts
        return f"an int of {int.bit_length(value)} bits" if isinstance(value, int) else "?"


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def credentials(
    address: str,
    token: object,
    ca: object,
    cert: object,
    key: object,
) -> Credentials:
    """Return the credentials of a client. No error shows a token."""
    if not isinstance(token, str | None):
        raise InvalidType(f"token: must be a str, got {type(token).__name__}")
    files = {"ca": ca, "cert": cert, "key": key}
    paths = {name: _path(name, value) for name, value in files.items()}
    return Credentials.found(address, token=token, **paths)


def _path(name: str, value: object) -> str | None:
    """Return the text of a path; None for None."""
    if value is None:
        return None
    return text(name, str(value) if isinstance(value, os.PathLike) else value)
