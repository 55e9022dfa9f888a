"""Option types for ranges of steps, and for times."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any, Final, final

import click

from dbp.cli.arguments.quantities import DURATION
from dbp.rpc.limits import INT64_MAX

_STEPS: Final = re.compile(r"([0-9]*):([0-9]*)")


@final
class _Steps(click.ParamType):  # type: ignore[type-arg]
    """FIRST:LAST, of which one may be left out."""

    name = "steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        if isinstance(value, tuple):
            return value
        found = _STEPS.fullmatch(str(value).strip())
        if found is None:
            self.fail(
                f"{value!r}: expected FIRST:LAST, such as 100:200, 100: or :200", param, ctx
            )
        first, last = (int(number) if number else None for number in found.groups())
        if max(first or 0, last or 0) > INT64_MAX:
            self.fail(f"{value!r}: a step is at most {INT64_MAX}", param, ctx)
        if last is not None and last < (first or 0):
            self.fail(f"{value!r}: the last step comes before the first", param, ctx)
        return first, last


@final
class _Moment(click.ParamType):  # type: ignore[type-arg]
    """A time: a duration before now, or a date and time, in UTC unless it says otherwise."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        given = str(value).strip()
        try:
            moment = datetime.fromisoformat(given)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return max(0.0, moment.timestamp())
        except (ValueError, OverflowError):
            pass
        try:
            return max(0.0, time.time() - DURATION.convert(given, param, ctx))
        except click.BadParameter:
            self.fail(
                f"{value!r}: expected a time before now, such as 10min or 2h, or a time in "
                "UTC, such as 2026-01-31T18:00",
                param,
                ctx,
            )


STEPS: Final = _Steps()
MOMENT: Final = _Moment()
