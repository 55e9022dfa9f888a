"""Option types for quantities with units: durations (12h, 30d) and sizes (500MB, 20GB)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, final

import click

from dbp.quantities import DAY, HOUR, MINUTE

_SECONDS: Final = {"s": 1, "min": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_BYTES: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")


@final
class Quantity(click.ParamType):  # type: ignore[type-arg]
    """A number with its unit, in upper or lower case."""

    def __init__(self, name: str, units: Mapping[str, int], example: str) -> None:
        self.name = name
        self._units = units
        self._folded = {unit.lower(): unit for unit in units}
        self._example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = _NUMBER.fullmatch(str(value).strip())
        unit = self._folded.get(found[2].lower()) if found else None
        if found is None or unit is None:
            units = ", ".join(self._units)
            self.fail(
                f"{value!r}: expected a number with a unit ({units}), such as {self._example}",
                param,
                ctx,
            )
        quantity = float(found[1]) * self._units[unit]
        if not quantity or math.isinf(quantity):
            self.fail(f"{value!r}: must be finite and more than 0", param, ctx)
        return quantity

    def text(self, quantity: float) -> str:
        """Return a quantity as text that ``convert`` reads back."""
        base = next(unit for unit, size in self._units.items() if size == 1)
        return f"{int(quantity)}{base}" if quantity == int(quantity) else f"{quantity}{base}"


DURATION: Final = Quantity("duration", _SECONDS, "30d or 12h")
SIZE: Final = Quantity("size", _BYTES, "500MB or 20GB")
