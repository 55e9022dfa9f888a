"""`dbp serve`: run the control service on this machine."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.job_surroundings import sink_kinds, variable_names
from dbp.cli.arguments.quantities import DURATION, SIZE
from dbp.cli.arguments.settings import ConfiguredCommand, config_options, setting
from dbp.errors import InvalidInput
from dbp.quantities import count_text
from dbp.rpc.address import DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    from dbp.jobs.recovery import RecoveryReport


_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


def _state_shown() -> str:
    from dbp.access.places import default_state_folder

    return str(default_state_folder())


@click.command(cls=ConfiguredCommand)
@setting(
    "--host",
    help=f"Listen on TCP, too, at this address.  [default: {DEFAULT_HOST} with --port]",
)
@setting(
    "--port", type=click.IntRange(0, 65535),
    help="Listen on TCP, too, at this port; 0: any free one. Callers need a token.  "
    f"[default: {DEFAULT_PORT} with --host]",
)  # fmt: skip
@setting(
    "--tls-cert", type=_FILE, help="PEM file of the service's certificate, and those up to its "
    "CA, for TLS on TCP; takes --tls-key.",
)  # fmt: skip
@setting("--tls-key", type=_FILE, help="PEM file of its private key (mode 0600).")
@setting(
    "--client-ca", type=_FILE, help="PEM file of the CA of client certificates; every caller "
    "over TCP must have one then. Takes --client-table.",
)  # fmt: skip
@setting(
    "--client-table", type=_FILE, help="TOML file that says whose a client certificate is: "
    "tables [[client]] with subject, owner and role.",
)  # fmt: skip
@setting(
    "--open-inference", is_flag=True, help="Answer inference and health without a token, for "
    "every job, to every user of this machine; on loopback only.",
)  # fmt: skip
@setting(
    "--state", type=click.Path(path_type=Path), shown=_state_shown,
    help="Folder of jobs, logs and parameters (mode 0700).",
)  # fmt: skip
@setting(
    "--slots",
    type=click.IntRange(1),
    help="Workers of all jobs that run at a time.  [default: usable cores]",
)
@setting(
    "--data-root", "data_roots", multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Jobs may read data files in this folder and below it, without links out and names "
    "that begin with a dot; may be repeated.  [default: jobs submitted over the socket: "
    "every file that the service's user can read; over TCP: none]",
)  # fmt: skip
@setting(
    "--pass-env", "passed", multiple=True, metavar="NAME", callback=variable_names,
    help="Environment variable that workers inherit from the service, such as PYTHONPATH for "
    "plug-ins that are not installed; may be repeated. By default they inherit PATH, HOME, "
    "LD_LIBRARY_PATH, thread counts such as OMP_NUM_THREADS, and the settings of MPI.",
)  # fmt: skip
@setting(
    "--allow-sink", "allowed_sinks", multiple=True, metavar="KIND", callback=sink_kinds,
    help="Kind of a plug-in's sink that jobs may name in report.sinks; may be repeated.  "
    "[default: none but those of dbp]",
)  # fmt: skip
@setting(
    "--recover", is_flag=True, once=True,
    help="Rebuild a damaged database from the files of the jobs, then serve. The damaged one "
    "is kept.",
)  # fmt: skip
@setting(
    "--keep-ended", type=DURATION, metavar="DURATION",
    help="Delete a job, with its log, checkpoints and parameters, this long after its end, "
    "such as 30d or 12h. Jobs with a pinned or labelled version stay.  [default: keep all]",
)  # fmt: skip
@setting(
    "--max-disk", type=SIZE, metavar="SIZE",
    help="Delete ended jobs, the oldest first, while the state folder takes more than this, "
    "such as 20GB. Jobs with a pinned or labelled version stay.  [default: no limit]",
)  # fmt: skip
@setting(
    "--max-jobs-per-owner", type=click.IntRange(1), metavar="N",
    help="Jobs of one owner that may wait or run.  [default: no limit]",
)  # fmt: skip
@setting(
    "--max-disk-per-owner", type=SIZE, metavar="SIZE",
    help="Disk space of one owner's jobs, above which he submits no more, such as 5GB.  "
    "[default: no limit]",
)  # fmt: skip
@setting(
    "--log-level", default="warning", show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Lowest level that is logged.",
)  # fmt: skip
@setting(
    "--log-format", type=click.Choice(["lines", "json"]), default="lines", show_default=True,
    help="Format of the log; records name job, attempt, rank and request where they are known.",
)  # fmt: skip
@setting(
    "--log-file", type=click.Path(dir_okay=False, path_type=Path),
    help="File of the log (mode 0600), opened again on SIGHUP.  [default: stderr]",
)  # fmt: skip
@setting(
    "--log-size", type=SIZE, metavar="SIZE", default="100MB", show_default=True,
    help="Rotate the file before it is larger; five older ones stay.",
)  # fmt: skip
@setting(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Format of the line printed when the service is ready.",
)  # fmt: skip
@config_options
def serve(
    host: str | None,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    client_table: Path | None,
    open_inference: bool,
    state: Path | None,
    slots: int | None,
    data_roots: tuple[Path, ...],
    passed: tuple[str, ...],
    allowed_sinks: tuple[str, ...],
    recover: bool,
    keep_ended: float | None,
    max_disk: float | None,
    max_jobs_per_owner: int | None,
    max_disk_per_owner: float | None,
    log_level: str,
    log_format: str,
    log_file: Path | None,
    log_size: float,
    output: str,
) -> None:
    """Run the control service until Ctrl-C or SIGTERM.

    It listens on a Unix socket that only its own user can open; commands and clients of that
    user find it by its state folder. With --port or --host it listens on TCP, too, where every
    caller needs a token (dbp token create) or a client certificate, and any address but
    loopback needs TLS. SIGHUP reads tokens and certificates again; on a terminal it stops the
    service.

    The service starts jobs through mpirun, reports their progress and serves their parameters
    over gRPC. Jobs and parameters survive a restart of the service; training continues
    meanwhile. SIGTERM to all of its processes, as systemd sends it, lets jobs write a
    checkpoint and stop; they resume when the service is started again.

    \b
    Examples:
      dbp serve
      dbp serve --port 5327 --state /tmp/dbp --slots 4
      dbp serve --host 0.0.0.0 --tls-cert server.pem --tls-key server.key
      dbp serve --keep-ended 30d --max-disk 20GB
      dbp submit job.toml --workers 2 --watch      (from another terminal)
      dbp serve --config dbp.toml --print-config
      dbp serve --recover      (when it says that its database is damaged)
    """
    import asyncio
    import logging

    from dbp.access.places import default_state_folder
    from dbp.cores import usable_cores
    from dbp.jobs.config import ManagerConfig
    from dbp.launch.mpirun import MpirunLauncher
    from dbp.launch.scratch import memory_parent, sweep, temporary_parent
    from dbp.launching import oversubscription
    from dbp.service.config import ServerConfig
    from dbp.service.log_output import set_up_log
    from dbp.service.process import serve as run
    from dbp.service.tls import TlsFiles

    as_json = log_format == "json"
    reopen = set_up_log(log_level, log_file, as_json=as_json, max_bytes=round(log_size))
    folder = (state or default_state_folder()).absolute()
    _check_pairs(host, port, tls_cert, tls_key, client_ca, client_table, open_inference)
    tls = TlsFiles(tls_cert, tls_key, client_ca, client_table) if tls_cert and tls_key else None
    if slots and (crowded := oversubscription(slots)):
        click.echo(f"note: with all slots taken, {crowded}", err=True)
    _check_roots(data_roots, folder)
    config = ServerConfig(
        host=host or DEFAULT_HOST,
        port=DEFAULT_PORT if port is None and host is not None else port,
        state=folder,
        manager=ManagerConfig(
            keep_ended_seconds=keep_ended,
            max_disk_bytes=_bytes(max_disk),
            max_jobs_per_owner=max_jobs_per_owner,
            max_disk_per_owner_bytes=_bytes(max_disk_per_owner),
        ),
        tls=tls,
        open_inference=open_inference,
        data_roots=data_roots or None,
        allowed_sinks=allowed_sinks,
    )

    def ready(address: str) -> None:
        gc.collect()
        gc.freeze()  # a full collection, which all calls wait for, skips modules and old jobs
        text = f"dbp serves at {address} (state in {folder}; Ctrl-C stops it)"
        found = {"address": address, "state": str(folder)}
        click.echo(json.dumps(found) if output == "json" else text)

    for path in sweep([memory_parent(os.environ), temporary_parent()]):
        logging.getLogger("dbp").info("%s: removed: its run was killed", path)
    launcher = MpirunLauncher(slots or usable_cores(), passed, data_roots=config.data_roots)
    recovered = _show_recovery if recover else None
    asyncio.run(run(config, launcher, ready=ready, recovered=recovered, on_hangup=reopen))


def _check_roots(roots: Sequence[Path], state: Path) -> None:
    """Raise InvalidInput for a data root below which no job could read a file."""
    for root in roots:
        if root.resolve().is_relative_to(state.resolve()):
            raise InvalidInput(
                f"--data-root {root}: lies in the state folder {state}, whose files are no "
                "data of jobs; name another folder"
            )


def _bytes(size: float | None) -> int | None:
    """Return a size in whole bytes; None for none."""
    return None if size is None else round(size)


def _check_pairs(
    host: str | None,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    client_table: Path | None,
    open_inference: bool,
) -> None:
    """Raise UsageError for options of TLS and TCP that need others."""
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key: give both, or neither")
    if (client_ca is None) != (client_table is None):
        raise click.UsageError("--client-ca and --client-table: give both, or neither")
    if client_ca is not None and tls_cert is None:
        raise click.UsageError("--client-ca: takes --tls-cert and --tls-key")
    if host is None and port is None and (tls_cert is not None or open_inference):
        raise click.UsageError(
            "--tls-cert, --open-inference: are of the TCP listener; add --port or --host"
        )


def _show_recovery(report: RecoveryReport | None) -> None:
    """Print the rebuilt jobs and the losses to stderr."""
    if report is None:
        click.echo("the database is not damaged: nothing was changed", err=True)
        return
    click.echo(f"damage: {report.damage}", err=True)
    for note in report.notes:
        click.echo(f"not rebuilt: {note}", err=True)
    for path in report.kept:
        click.echo(f"kept: {path}", err=True)
    jobs = count_text(report.jobs, "job")
    versions = count_text(report.versions, "version")
    click.echo(f"rebuilt: {jobs} with {versions} of parameters", err=True)
