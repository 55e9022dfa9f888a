"""The option that names the state folder of a service."""

from __future__ import annotations

from pathlib import Path

import click

from dbp.access.places import STATE_VARIABLE


def _folder(_context: click.Context, _parameter: click.Parameter, given: Path | None) -> Path:
    """Return the folder, absolute; the user's state folder if none was given."""
    from dbp.access.places import default_state_folder

    return (given or default_state_folder()).absolute()


state_option = click.option(
    "--state",
    type=click.Path(path_type=Path),
    callback=_folder,
    help=f"State folder of the service.  [default: ${STATE_VARIABLE}, else the user's state "
    "folder]",
)
