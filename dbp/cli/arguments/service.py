"""Connect to the service of a command, and find the job that it names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import click

from dbp.errors import InvalidInput, NotFound
from dbp.printable import printable_output

if TYPE_CHECKING:
    from dbp.client.client import Client
    from dbp.client.job import JobHandle

# A command waits longer for a frozen service than a program does: its user sees the note.
TIMEOUT_SECONDS: Final = 60.0
SHOWN_IDS: Final = 5
_RESOURCE: Final = "jobs/"


def connect(service: str) -> Client:
    """Return a client of the service at an address; its outages become notes on stderr."""
    from dbp.client.client import Client

    log = logging.getLogger("dbp.client")
    if not any(isinstance(handler, _Notes) for handler in log.handlers):
        log.addHandler(_Notes())
        log.setLevel(logging.INFO)
    return Client(service, timeout=TIMEOUT_SECONDS)


def find_job(client: Client, given: str) -> JobHandle:
    """Return the job with this id, resource name, or unique prefix of an id.

    Raises NotFound if no id begins so, and InvalidInput, which lists them, if several do, or
    for a path.
    """
    if "/" in given.removeprefix(_RESOURCE):
        path = "is a path here" if Path(given).exists() else "is no path here either"
        raise InvalidInput(
            f"{given}: no id of a job, such as digits-7k2m9q, which this command needs (dbp "
            f"jobs lists them); it {path}"
        )
    try:
        return client.job(given)
    except NotFound:
        prefix = given.removeprefix(_RESOURCE)
        found = [job.id for job in client.jobs() if job.id.startswith(prefix)]
        if not found:
            raise
    if len(found) > 1:
        shown = ", ".join(found[:SHOWN_IDS]) + (", ..." * (len(found) > SHOWN_IDS))
        raise InvalidInput(f"{prefix!r} begins several jobs: {shown}")
    return client.job(found[0])


@final
class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(printable_output(f"note: {record.getMessage()}"), err=True)
