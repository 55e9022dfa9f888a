"""``dbp verify``: compute an epoch of a run again, or verify the chain of a job's versions."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING

import click

from dbp.cli.arguments.job import SOURCE
from dbp.cli.arguments.ranges import COUNT
from dbp.cli.arguments.service import connect, find_job
from dbp.cli.arguments.source import Source, source_of
from dbp.cli.screen.output import echo, echo_json, output_option, service_option
from dbp.errors import InvalidInput
from dbp.launching import set_thread_counts
from dbp.quantities import count_text

if TYPE_CHECKING:
    from dbp.cli.chain import Chain


@click.command()
@click.argument("run", type=SOURCE, metavar="RUN_OR_JOB")
@click.option(
    "--epoch", type=COUNT, help="Of a run: the epoch to compute again.  [default: the last one]"
)
@service_option
@output_option
def verify(run: str, epoch: int | None, service: str, output: str) -> None:
    """Verify the bits of a run, or the chain of versions of a job.

    RUN is a folder. One process computes an epoch again, from the checkpoint before the epoch
    or from the seed, and compares the SHA-256 of the parameters with the recorded one, however
    many workers the run had. This needs the data, and a run with exact numerics or 1 worker.

    JOB is a job of the service. Checks that every version names the digest of the version
    before it and the digest of the job's spec, and that the kept bytes have their digests. The
    first version after a restore of a backup must name the newest one in the backup. What
    cannot be verified is noted.

    \b
    Examples:
      dbp verify runs/digits
      dbp verify runs/digits --epoch 3
      dbp verify digits-7k2m9q

    Exit code 1 if a comparison fails: other data, another processor type or build of numpy,
    another version of dbp, a damaged file, or a fault.
    """
    source = source_of(run)
    if source.path is None:
        if epoch is not None:
            raise InvalidInput(f"--epoch is for a run folder, and there is no folder {run!r}")
        _verify_job(source, service, output)
        return
    if not source.path.is_dir():
        raise InvalidInput(f"{run}: is a file; name the run's folder, or a job's id")
    set_thread_counts(os.environ)
    from dbp.train.verification import verify_run

    proof = verify_run(source.path, epoch)
    if output == "json":
        echo_json({**dataclasses.asdict(proof), "same": proof.same})
    elif proof.reasons:
        echo(f"epoch {proof.epoch}, step {proof.step:,}: cannot be computed again")
        echo("the data are not those that the run was trained on:")
        for reason in proof.reasons:
            echo(f"  {reason}")
    else:
        begun = f"step {proof.begun_at:,}" if proof.begun_at else "the seed"
        echo(f"epoch {proof.epoch}, step {proof.step:,}, computed again from {begun}")
        echo(f"recorded  {proof.recorded}  ({count_text(proof.workers, 'worker')})")
        echo(f"computed  {proof.computed}  (1 process)")
        echo("the same bits" if proof.same else "DIFFERENT bits")
        if proof.likely_cause:
            echo(f"likely cause: {proof.likely_cause}")
    sys.exit(0 if proof.same else 1)


def _verify_job(source: Source, service: str, output: str) -> None:
    from dbp.cli.chain import follow_chain

    with source.asking(), connect(service) as client:
        chain = follow_chain(find_job(client, source.text))
    if output == "json":
        echo_json(dataclasses.asdict(chain))
    else:
        for problem in chain.problems:
            echo(f"WRONG  {problem}")
        for note in chain.notes:
            echo(f"NOTE   {note}")
        echo(f"{chain.job}: {chain_text(chain)}")
    sys.exit(1 if chain.problems else 0)


def chain_text(chain: Chain) -> str:
    """Return the verdict on a chain in one line."""
    if chain.problems:
        found = count_text(len(chain.problems), "problem")
        return f"{found} in versions {chain.oldest:,} to {chain.newest:,}"
    form = "forms one chain" if chain.links == 1 else "form one chain"
    if chain.unlinked:
        links = "the link" if chain.unlinked == 1 else "the links"
        form = f"form {chain.unlinked + 1} chains ({links} between them cannot be verified)"
    stored = "1 still stored was" if chain.read == 1 else f"{chain.read:,} still stored were"
    return (
        f"ok, {count_text(chain.links, 'version')} {form}; the {stored} verified byte by byte"
    )
