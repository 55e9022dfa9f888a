"""Option types for numbers, limited to what a request can hold."""

from __future__ import annotations

import math
from typing import Any, Final, final

import click

from dbp.rpc.limits import INT32_MAX, INT64_MAX, YEAR_SECONDS


@final
class _Count(click.IntRange):
    """A whole number; help shows only its lower limit, since the upper one is technical."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        number = int(click.INT.convert(value, param, ctx))
        if self.max is not None and number > self.max:
            self.fail(f"{number} is too large; at most {self.max} is allowed.", param, ctx)
        return int(super().convert(number, param, ctx))

    def _describe_range(self) -> str:
        return f"x>={self.min}"


@final
class _Seconds(click.FloatRange):
    """A duration; unlike click's range it refuses NaN."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value} is not in the range 0<=x<={self.max}.", param, ctx)
        return seconds


COUNT: Final = _Count(1, INT64_MAX)  # a version, how many
COUNT_OR_NONE: Final = _Count(0, INT64_MAX)  # a step, a number of steps
SMALL_COUNT: Final = _Count(1, INT32_MAX)  # workers, an attempt
RANK: Final = _Count(0, INT32_MAX)
SECONDS: Final = _Seconds(0, YEAR_SECONDS)
