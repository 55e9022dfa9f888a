"""Names that a service has, for a shell's completion: jobs, and names within a job.

A short deadline bounds each request; without an answer there are no names, and no message.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from dbp.client.client import Client
    from dbp.client.job import JobHandle

# A service on the same machine answers in milliseconds.
DEADLINE_SECONDS: Final = 1.0
RESOURCE: Final = "jobs/"
NEWEST: Final = "latest"
_MAX_JOBS: Final = 500
_MAX_VERSIONS: Final = 20
# The parameters of commands that name a job.
_JOB_PARAMETERS: Final = ("job", "source", "run")


def completed(names: Mapping[str, str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin so, with their explanations."""
    found = ((name, text) for name, text in names.items() if name.startswith(incomplete))
    return [CompletionItem(name, help=text) for name, text in found]


def jobs(ctx: click.Context) -> dict[str, str]:
    """Return the ids of jobs, newest first, each with its state."""

    def ask(client: Client) -> dict[str, str]:
        until = time.monotonic() + DEADLINE_SECONDS
        found = itertools.takewhile(lambda _: time.monotonic() < until, client.jobs())
        return {job.id: job.state.value for job in itertools.islice(found, _MAX_JOBS)}

    return _answer(ctx, ask)


def labels(ctx: click.Context) -> dict[str, str]:
    """Return the labels of the job on the command line, each with its version."""
    return _answer_of_job(ctx, _labels)


def versions(ctx: click.Context) -> dict[str, str]:
    """Return the names that versions of the job on the command line have.

    They are `latest`, the labels, and the numbers of the newest versions that are kept.
    """

    def ask(job: JobHandle) -> dict[str, str]:
        kept = (entry.version for entry in job.versions() if entry.kept)
        newest = itertools.islice(kept, _MAX_VERSIONS)
        return {**_labels(job), **{str(v.version): f"step {v.step:,}" for v in newest}}

    return {NEWEST: "the newest version", **_answer_of_job(ctx, ask)}


def metrics(ctx: click.Context) -> dict[str, str]:
    """Return the names of the metrics of the job on the command line."""

    def ask(job: JobHandle) -> dict[str, str]:
        return dict.fromkeys(job.metrics(points=1), "metric")

    return _answer_of_job(ctx, ask)


def _labels(job: JobHandle) -> dict[str, str]:
    now, _ = job.labels()
    return {move.label: f"version {move.version}" for move in now}


def _answer_of_job(
    ctx: click.Context, ask: Callable[[JobHandle], dict[str, str]]
) -> dict[str, str]:
    named = [ctx.params[name] for name in _JOB_PARAMETERS if ctx.params.get(name)]
    named += ctx.params.get("jobs") or ()
    named += ctx.args  # where click leaves arguments before an option without its value
    if not named:
        return {}
    return _answer(ctx, lambda client: ask(client.job(str(named[0]))))


def _answer(ctx: click.Context, ask: Callable[[Client], dict[str, str]]) -> dict[str, str]:
    """Return the service's answer, empty where there is none in time."""
    os.environ["GRPC_VERBOSITY"] = "NONE"  # before the import of gRPC
    logging.disable(logging.CRITICAL)  # this process does nothing but complete
    with contextlib.suppress(Exception):
        from dbp.client.client import Client
        from dbp.rpc.address import service_address

        address = ctx.params.get("service") or service_address()
        with Client(address, timeout=DEADLINE_SECONDS) as client:
            return ask(client)
    return {}
