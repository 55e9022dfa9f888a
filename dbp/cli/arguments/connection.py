"""Connect a command to a service; while the service is frozen, wait and print a note."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

import click

if TYPE_CHECKING:
    from dbp.client.client import Client

# A command waits longer for a frozen service than a program does: its user sees the note.
TIMEOUT_SECONDS: Final = 60.0


def connect(service: str) -> Client:
    """Return a client of the service at an address; its outages become notes on stderr."""
    from dbp.client.client import Client

    log = logging.getLogger("dbp.client")
    if not any(isinstance(handler, _Notes) for handler in log.handlers):
        log.addHandler(_Notes())
        log.setLevel(logging.INFO)
    return Client(service, timeout=TIMEOUT_SECONDS)


@final
class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"note: {record.getMessage()}", err=True)
