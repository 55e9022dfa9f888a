"""``dbp verify``: compute an epoch of a run again and compare the bits."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import click

from dbp.cli.output import echo_json, output_option
from dbp.launching import set_thread_counts


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--epoch", type=click.IntRange(1), help="Which epoch.  [default: the last one]")
@output_option
def verify(run: Path, epoch: int | None, output: str) -> None:
    """Prove that the parameters of RUN are what its spec and data give.

    One process computes an epoch again, from the checkpoint before it or from the seed, and
    compares the SHA-256 of the parameters with what the run wrote down, however many workers
    it had. Needs the data, and a run with exact numerics or a single worker.

    \b
    Examples:
      dbp verify runs/digits
      dbp verify runs/digits --epoch 3

    Exit code 1 where the bits differ: other data, another processor type or build of numpy,
    or a fault.
    """
    set_thread_counts(os.environ)
    from dbp.train.verification import verify_run

    proof = verify_run(run, epoch)
    if output == "json":
        echo_json({**dataclasses.asdict(proof), "same": proof.same})
    else:
        begun = f"step {proof.begun_at:,}" if proof.begun_at else "the seed"
        click.echo(f"epoch {proof.epoch}, step {proof.step:,}, computed again from {begun}")
        click.echo(f"recorded  {proof.recorded}  ({proof.workers} workers)")
        click.echo(f"computed  {proof.computed}  (1 process)")
        click.echo("the same bits" if proof.same else "DIFFERENT bits")
    sys.exit(0 if proof.same else 1)
