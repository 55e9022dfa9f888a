"""`dbp params`: the parameters of a running or ended job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dbp.cli.output import (
    echo_json,
    output_option,
    service_option,
    table,
    version_content,
    writing,
)

if TYPE_CHECKING:
    from dbp.client.parameter_set import ParameterSet


@click.command()
@click.argument("job")
@click.option(
    "-o", "--out", "file", type=click.Path(path_type=Path), help="Write a safetensors file."
)
@click.option(
    "--tensor", "patterns", multiple=True, metavar="PATTERN",
    help="Only tensors whose name matches ('0.*', '*.bias'); may be repeated.",
)  # fmt: skip
@click.option("--version", type=click.IntRange(1), help="Which version.  [default: newest]")
@click.option(
    "--wait", type=click.FloatRange(0), metavar="SECONDS",
    help="Wait this long for the first version.",
)  # fmt: skip
@service_option
@output_option
def params(
    job: str,
    file: Path | None,
    patterns: tuple[str, ...],
    version: int | None,
    wait: float | None,
    service: str,
    output: str,
) -> None:
    """Show the parameters of JOB as they are now: version, step, each tensor and its norm.

    \b
    Examples:
      dbp params digits-7k2m9q
      dbp params digits-7k2m9q --tensor '*.bias'
      dbp params digits-7k2m9q -o weights.safetensors
    """
    from dbp.client.client import Client
    from dbp.client.download import write_whole

    with Client(service) as client, _bytes_bar() as on_bytes:
        handle = client.job(job)
        found = handle.parameters(*patterns, version=version or 0, wait=wait, on_bytes=on_bytes)
        if found is None:  # not without newer_than
            raise click.ClickException("the service sent no parameters")
    if file is not None:
        with writing(file):
            write_whole(file, found.content)
    if output == "json":
        echo_json({"job": handle.id, **version_content(found.version), "tensors": _rows(found)})
        return
    newest = found.version
    click.echo(
        f"{handle.id}: version {newest.version}, step {newest.step:,}"
        + (" (final)" if newest.final else "")
        + f", sha256 {newest.digest[:16]}"
    )
    rows = [
        (row["name"], " x ".join(map(str, row["shape"])), row["dtype"], f"{row['norm']:.6g}")
        for row in _rows(found)
    ]
    click.echo(table([("TENSOR", "SHAPE", "TYPE", "NORM"), *rows]))
    if file is not None:
        click.echo(f"written to {file} ({len(found.content):,} bytes)")


def _rows(found: ParameterSet) -> list[dict[str, Any]]:
    import numpy as np

    return [
        {
            "name": name,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype),
            "norm": float(np.linalg.norm(tensor.astype(np.float64).ravel())),
        }
        for name, tensor in found.tensors.items()
    ]


class _bytes_bar:  # noqa: N801 (used like a function)
    """A progress bar for what takes long enough to need one; nothing is drawn before."""

    LARGE = 32 << 20

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> _bytes_bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, received: int, total: int) -> None:
        if total < self.LARGE:
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
