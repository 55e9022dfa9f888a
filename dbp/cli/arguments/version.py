"""The VERSION argument: a number, latest, a label such as best, or step:N."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypedDict, final

import click
from click.shell_completion import CompletionItem

from dbp.cli.arguments import service_names
from dbp.cli.arguments.ranges import COUNT, COUNT_OR_NONE
from dbp.errors import InvalidInput, nearest
from dbp.job.labels import ALWAYS_NEWEST, BEST, check_name

HELP: Final = "a number, latest, a label such as best, or step:N"
_STEP: Final = "step:"


class ReadArguments(TypedDict):
    """Arguments of ``JobHandle.parameters`` that name a version."""

    version: int
    label: str
    step: int | None


class ChangeArguments(TypedDict):
    """Arguments of ``JobHandle.move_label`` and ``pin`` that name a version."""

    version: int | None
    at: str
    step: int | None


@dataclass(frozen=True)
class VersionName:
    """A version named by its number, by a label or `latest`, or by its step."""

    number: int = 0
    label: str = ""
    step: int | None = None

    def reading(self) -> ReadArguments:
        """Return the arguments of ``JobHandle.parameters``."""
        return {"version": self.number, "label": self.label, "step": self.step}

    def changing(self) -> ChangeArguments:
        """Return the arguments of ``JobHandle.move_label`` and ``pin``."""
        return {"version": self.number or None, "at": self.label, "step": self.step}


def version_name(
    version: VersionName | None, label: str = "", step: int | None = None
) -> VersionName:
    """Return the version that the options --version, --label and --step name together.

    Raises InvalidInput where more than one is set; none of them names the newest.
    """
    if (version is not None) + bool(label) + (step is not None) > 1:
        raise InvalidInput("--version, --label, --step: name only one of them")
    return version or VersionName(label=label, step=step)


@final
class _VersionType(click.ParamType):  # type: ignore[type-arg]
    name = "version"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> VersionName:
        if isinstance(value, VersionName):
            return value
        text = str(value)
        if text.startswith(_STEP):
            number = text.removeprefix(_STEP)
            if not (number.isascii() and number.isdecimal()):
                self.fail(f"{text!r}: expected step:N, such as step:1200", param, ctx)
            return VersionName(step=COUNT_OR_NONE(number, param, ctx))
        if text.isascii() and text.isdecimal():
            if not text.strip("0"):
                self.fail("version 0: versions count from 1; latest is the newest", param, ctx)
            return VersionName(number=COUNT(text, param, ctx))
        try:
            check_name(text)
        except InvalidInput:
            hint = nearest(text.lower(), (ALWAYS_NEWEST[0], BEST))
            self.fail(f"{text!r}: expected {HELP}{hint}", param, ctx)
        return VersionName(label=text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return service_names.completed(service_names.versions(ctx), incomplete)


VERSION: Final = _VersionType()
