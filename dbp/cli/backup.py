"""`dbp backup` and `dbp restore`: copy a state folder while it is in use, and make it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.state import state_option
from dbp.cli.screen.output import echo_json, output_option
from dbp.quantities import count_text, size_text

if TYPE_CHECKING:
    from dbp.backup.manifest import Manifest
    from dbp.json_value import JsonObject

STAGE_SECONDS: Final = 600.0  # a service with a million files


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@state_option
@output_option
def backup(target: Path, state: Path, output: str) -> None:
    """Write a backup of a service's state folder to TARGET, while the service and its jobs run.

    TARGET is a new folder, or a tar archive if it ends in .tar, .tar.gz or .tgz. It is private
    (mode 0700 or 0600), durable and checked when the command returns; a backup that is cut
    leaves no TARGET. Run it on the service's machine as the service's user.

    In it: all jobs of one moment, their specs and states, their versions of parameters, labels
    and pins, checkpoints, metrics and logs, and the tokens. Jobs that run are in it, too: after
    a restore they continue from their newest checkpoint in the backup.

    Not in it: data files that jobs read, folders of runs that were started by hand, files of
    deleted jobs, and the history of events.

    Exit code 1, with a line for each file: versions of parameters were damaged or missing in
    the state folder already. The backup is complete otherwise, and stays.

    \b
    Examples:
      dbp backup /backups/dbp-monday
      dbp backup /backups/dbp.tar.gz --state /var/lib/dbp
    """
    from dbp import __version__
    from dbp.backup.backing_up import check_target, staged, write_backup

    target = target.absolute()
    check_target(target, state)
    with staged(state, lambda: _stage(state)) as (folder, create_time):
        written = write_backup(folder, target, dbp=__version__, create_time=create_time)
    _show(written.manifest, target, f"backup of {state} in {target}", output)
    for text in written.damaged:
        click.echo(f"warning: {text}", err=True)
    if written.damaged:
        sys.exit(1)


@click.command()
@click.argument("backup", type=click.Path(path_type=Path))
@state_option
@click.option("--check", "only_check", is_flag=True, help="Check BACKUP only; write nothing.")
@output_option
def restore(backup: Path, state: Path, only_check: bool, output: str) -> None:
    """Make a state folder from BACKUP, which `dbp backup` wrote.

    The state folder must be empty or absent. Every file is compared with its SHA-256 before the
    folder appears, at once; a damaged backup is refused, and so is one of a newer dbp.

    Then start the service as usual. Jobs that ran when the backup was made continue from their
    newest checkpoint in it; their processes are not looked for. Watchers start over. Tokens
    that were revoked after the backup are valid again: revoke them again.

    \b
    Examples:
      dbp restore /backups/dbp-monday --check
      dbp restore /backups/dbp.tar.gz --state /var/lib/dbp
    """
    from dbp.backup import restoring
    from dbp.backup.checking import check

    if only_check:
        checked = check(backup)
        _show(checked.manifest, backup, f"ok: {backup}", output)
    else:
        checked = restoring.restore(backup, state)
        text = f"restored {state} from {backup}; start it: dbp serve --state {state}"
        _show(checked.manifest, state, text, output)
    for text in checked.damaged:
        click.echo(f"warning: {text} when the backup was made", err=True)


def _stage(state: Path) -> tuple[Path, float]:
    """Let the service that uses a state folder stage its backup."""
    import asyncio

    from dbp.client.admin import AdminCalls
    from dbp.rpc.address import own_service

    async def stage() -> tuple[Path, float]:
        async with AdminCalls(own_service(state), timeout=STAGE_SECONDS) as calls:
            return await calls.stage_backup()

    return asyncio.run(stage())


def _show(manifest: Manifest, path: Path, text: str, output: str) -> None:
    if output == "json":
        content: JsonObject = {
            "path": str(path),
            "sha256": manifest.digest,
            "dbp": manifest.dbp,
            "create_time": manifest.create_time,
            "host": manifest.host,
            "state": manifest.state,
            "jobs": manifest.jobs,
            "files": len(manifest.files),
            "bytes": manifest.size,
        }
        echo_json(content)
        return
    jobs, files = count_text(manifest.jobs, "job"), count_text(len(manifest.files), "file")
    click.echo(f"{text}\n{jobs}, {files}, {size_text(manifest.size)}, sha256 {manifest.digest}")
