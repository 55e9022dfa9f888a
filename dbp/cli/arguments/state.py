"""The option that names the state folder of a service."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

STATE_VARIABLE: Final = "DBP_STATE"


def _folder(_context: click.Context, _parameter: click.Parameter, given: Path | None) -> Path:
    """Return the folder, absolute; the user's state folder if none was given."""
    import platformdirs

    return (given or platformdirs.user_state_path("dbp")).absolute()


state_option = click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar=STATE_VARIABLE,
    callback=_folder,
    help=f"State folder of the service.  [default: ${STATE_VARIABLE}, else the user's state "
    "folder]",
)
