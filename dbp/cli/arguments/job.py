"""The arguments JOB, SOURCE, LABEL and METRIC; a shell completes them by asking the service."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final, final

import click
from click.shell_completion import CompletionItem

from dbp.cli.arguments import service_names


class _Text(click.ParamType):  # type: ignore[type-arg]
    """A text; click converts it like ``str``."""

    name = "text"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        return str(click.STRING.convert(value, param, ctx))


@final
class _JobType(_Text):
    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return complete_job(ctx, incomplete)


@final
class _SourceType(_Text):
    name = "source"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return complete_source(ctx, incomplete)


@final
class _LabelType(_Text):
    name = "label"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return service_names.completed(service_names.labels(ctx), incomplete)


@final
class _MetricType(_Text):
    name = "metric"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return service_names.completed(service_names.metrics(ctx), incomplete)


def complete_job(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the ids of jobs that begin so, newest first, with their states."""
    prefix = service_names.RESOURCE if incomplete.startswith(service_names.RESOURCE) else ""
    names = {prefix + job_id: text for job_id, text in service_names.jobs(ctx).items()}
    return service_names.completed(names, incomplete)


def complete_source(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return jobs and local paths that begin so; without such jobs leave paths to the shell."""
    jobs = complete_job(ctx, incomplete)
    if not jobs:
        return [CompletionItem(incomplete, type="file")]
    here: list[str] = []
    if "/" not in incomplete:
        with contextlib.suppress(OSError):  # a folder that may not be listed
            here = sorted(entry.name for entry in Path().iterdir())
    return [*jobs, *service_names.completed(dict.fromkeys(here, "a path here"), incomplete)]


JOB: Final = _JobType()
SOURCE: Final = _SourceType()
LABEL: Final = _LabelType()
METRIC: Final = _MetricType()
