"""``dbp train --profile``: check the path, and write the traces and the summary at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dbp.cli.screen.output import echo
from dbp.errors import InvalidInput

if TYPE_CHECKING:
    from dbp.train.profile.profile import Profile

profile_option = click.option(
    "--profile", is_flag=False, flag_value="", metavar="[FILE|DIR]",
    help="Record where the time is spent: write a Chrome trace of each rank into DIR, or of "
    "all into FILE.json, and print a summary.  [default DIR: RUN-profile]",
)  # fmt: skip


def check_profile(path: str | None, spec: Path | None, resumed: Path | None) -> None:
    """Raise UsageError or InvalidInput for a path that a profile must not replace."""
    if not path:
        return
    if spec is None and resumed is None and Path(path).is_file():
        raise click.UsageError(
            f"--profile takes {path} as its path, and SPEC is missing; write: "
            f"dbp train {path} --profile"
        )
    from dbp.train.profile.target import check_target

    try:
        check_target(Path(path))
    except OSError as error:
        raise InvalidInput(f"profile {path}: {error.strerror or error}") from error


def make_profile(path: str | None) -> Profile | None:
    """Return the profile of this rank; None without the option."""
    if path is None:
        return None
    from dbp.train.profile.profile import Profile

    return Profile()


def write_profile(profile: Profile, path: str, folder: Path, *, quiet: bool) -> None:
    """Write the traces of the run in ``folder``, and print the summary on stderr.

    A disk that is full does not make the run fail.
    """
    target = Path(path) if path else folder.with_name(f"{folder.name}-profile")
    if not quiet:
        echo(profile.summary.text(), err=True)
    try:
        profile.write(target)
    except OSError as error:
        echo(f"warning: {target}: cannot be written: {error.strerror or error}", err=True)
        return
    if not quiet:
        echo(f"traces: {target} (open them in https://ui.perfetto.dev)", err=True)
