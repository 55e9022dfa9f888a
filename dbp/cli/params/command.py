"""`dbp params`: show, fetch and watch the parameters of a job, and manage their versions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import click
from click.shell_completion import CompletionItem

from dbp.cli.arguments.job import LABEL, SOURCE, complete_source
from dbp.cli.arguments.ranges import COUNT_OR_NONE, SECONDS
from dbp.cli.arguments.service import connect, find_job
from dbp.cli.arguments.source import METAVAR, source_of
from dbp.cli.arguments.version import HELP, VERSION, VersionName, version_name
from dbp.cli.params.table import echo_set, tensor_rows, write_set
from dbp.cli.screen.output import (
    echo_json,
    output_option,
    service_option,
    version_content,
)
from dbp.errors import InvalidInput

if TYPE_CHECKING:
    from dbp.client.job import JobHandle
    from dbp.client.parameter_set import ParameterSet

# Name -> module, attribute. Any other first argument names the job or run to show.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "show": ("params.command", "show"),
    "diff": ("params.diff", "diff"),
    "versions": ("params.versions", "versions"),
    "labels": ("params.versions", "labels"),
    "label": ("params.versions", "label"),
    "pin": ("params.versions", "pin"),
    "unpin": ("params.versions", "unpin"),
    "publish": ("params.versions", "publish"),
}


@final
class _Params(click.Group):
    """Subcommands; `dbp params JOB` is `dbp params show JOB`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"dbp.cli.{module}"), attribute
        )
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # In this order: a shell drops entries before the instruction to complete a file.
        return [*complete_source(ctx, incomplete), *super().shell_complete(ctx, incomplete)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in COMMANDS and args[0] != "--help":
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.command(cls=_Params, no_args_is_help=True)
def params() -> None:
    """Show and manage parameters of jobs and runs; `dbp params JOB` is `dbp params show JOB`.

    \b
    Examples:
      dbp params digits-7k2m9q                        newest version: each tensor's norm
      dbp params runs/digits                          parameters of a run folder
      dbp params digits-7k2m9q --watch                each new version as it comes
      dbp params digits-7k2m9q --label best -o best.safetensors
      dbp params diff digits-7k2m9q 3 latest          change of each tensor
      dbp params label digits-7k2m9q stable 12        a name that keeps a version
    """


@click.command()
@click.argument("job", type=SOURCE, metavar=METAVAR)
@click.option(
    "-o",
    "--out",
    "file",
    type=click.Path(path_type=Path),
    help="File to write, in the safetensors format.",
)
@click.option(
    "--tensor", "patterns", multiple=True, metavar="PATTERN",
    help="Only tensors whose name matches ('0.*', '*.bias'); may be repeated.",
)  # fmt: skip
@click.option("--version", type=VERSION, help=f"Which version: {HELP}.  [default: latest]")
@click.option("--step", type=COUNT_OR_NONE, help="The version of this step.")
@click.option(
    "--label", type=LABEL, default="", help="The version with this label, such as best."
)
@click.option(
    "--cast",
    type=click.Choice(["f16", "bf16"]),
    help="Round the values to 16 bits; half the bytes are sent.",
)
@click.option(
    "--wait", type=SECONDS, metavar="SECONDS",
    help="Time to wait for a version that does not exist yet.  [default: do not wait]",
)  # fmt: skip
@click.option(
    "--max-staleness", type=COUNT_OR_NONE, metavar="STEPS",
    help="Refuse a version that is more than this many steps older than the run.  "
    "[default: any age]",
)  # fmt: skip
@click.option("--verify", is_flag=True, help="Verify the bytes, origin and values received.")
@click.option("--watch", is_flag=True, help="Print each new version until the job has ended.")
@service_option
@output_option
def show(
    job: str,
    file: Path | None,
    patterns: tuple[str, ...],
    version: VersionName | None,
    step: int | None,
    label: str,
    cast: str | None,
    wait: float | None,
    max_staleness: int | None,
    verify: bool,
    watch: bool,
    service: str,
    output: str,
) -> None:
    """Show parameters: version, step, each tensor and its norm.

    RUN_FILE_OR_JOB is a run folder, a parameter file, or a job of the service.

    \b
    Examples:
      dbp params digits-7k2m9q
      dbp params runs/digits
      dbp params digits-7k2m9q --tensor '*.bias'
      dbp params digits-7k2m9q --step 500 --verify
      dbp params digits-7k2m9q --watch --label stable     each version it moves to
      dbp params digits-7k2m9q -o weights.safetensors --cast bf16
    """
    source = source_of(job)
    source.refuse(
        version=version, label=label, step=step is not None, wait=wait is not None,
        max_staleness=max_staleness is not None, verify=verify, watch=watch,
    )  # fmt: skip
    if (path := source.file) is not None:
        from dbp.cli.params.file import show_file

        show_file(path, patterns, cast.upper() if cast else "", file, output)
        return
    options: dict[str, Any] = {
        **version_name(version, label, step).reading(), "wait": wait,
        "cast": cast.upper() if cast else None, "max_staleness_steps": max_staleness,
    }  # fmt: skip
    if watch and (version or step is not None or max_staleness is not None):
        raise InvalidInput(
            "--watch: follows the newest version or a --label; leave out --version, --step and "
            "--max-staleness"
        )
    if watch and wait is not None:
        raise InvalidInput("--watch: waits for as long as the job runs; leave out --wait")
    with source.asking(), connect(service) as client:
        handle = find_job(client, job)
        prove = _prover(handle) if verify else None
        if watch:
            from dbp.cli.params.watch import watch as follow

            follow(handle, patterns, label, options["cast"], file, output, prove)
            return
        with _bytes_bar(output) as on_bytes:
            found = handle.parameters(*patterns, **options, on_bytes=on_bytes)
        if found is None:  # not without newer_than
            raise click.ClickException("the service sent no parameters")
        proof = prove(found) if prove else None
        write_set(file, found)
        _show(handle, found, file, output, proof)


def _prover(handle: JobHandle) -> Callable[[ParameterSet], list[str]]:
    """Return a function that verifies a version of this job before it is used."""
    from dbp.cli.params.proof import proof_of

    return partial(proof_of, handle.get())


def _show(
    handle: JobHandle,
    found: ParameterSet,
    file: Path | None,
    output: str,
    proof: list[str] | None,
) -> None:
    if output == "json":
        facts = version_content(found.version)
        content = {"job": handle.id, **facts, "tensors": tensor_rows(found)}
        echo_json(content | ({"verified": proof} if proof else {}))
        return
    newest = found.version
    final = " (final)" if newest.final else ""
    step = f"step {newest.step:,}{final}"
    title = f"{handle.id}: version {newest.version}, {step}, sha256 {newest.digest[:16]}"
    echo_set(title, found, file, proof)


class _bytes_bar:  # noqa: N801 (used like a function)
    """A progress bar for long downloads, on a terminal."""

    LARGE = 32 << 20

    def __init__(self, output: str) -> None:
        self._drawn = output == "text" and sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> _bytes_bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, received: int, total: int) -> None:
        if not self._drawn or total < self.LARGE:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

            self._bar = Progress(
                BarColumn(), DownloadColumn(), TransferSpeedColumn(),
                console=Console(stderr=True),
            )  # fmt: skip
            self._task = self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=received)
