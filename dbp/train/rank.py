"""Join the other ranks of a run, and build the trainer of one rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dbp.heartbeat.phase import NO_HEARTBEAT, Heartbeat, Phase
from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.train.build import fit_scaling, prepare
from dbp.train.check.inspection import Inspected
from dbp.train.faults.agreement import all_or_none
from dbp.train.report.fan_out import FanOut
from dbp.train.report.sink import Control, Sink
from dbp.train.sinks.sink_threads import SinkThreads
from dbp.train.state.continuation import Terms
from dbp.train.trainer import Trainer

if TYPE_CHECKING:  # a run without a profile does not load it
    from dbp.train.profile.profile import Profile


def connect_ranks(workers: int, heartbeat: Heartbeat = NO_HEARTBEAT) -> Communicator:
    """Return the communicator of this rank; a single worker needs no MPI."""
    if workers == 1:
        return SoloCommunicator()
    from dbp.parallel.counted import CountedCommunicator
    from dbp.parallel.mpi import connect

    heartbeat.enter(Phase.EXCHANGE)  # MPI waits until all ranks have started
    connected = CountedCommunicator(connect(workers), heartbeat.count_collective)
    heartbeat.enter(Phase.STARTING)
    return connected


def make_trainer(
    communicator: Communicator,
    inspect: Callable[[], Inspected],
    *,
    sink: Sink,
    control: Control,
    checkpoints: Path | None = None,
    resume: bool | Terms = False,
    max_seconds: float | None = None,
    detach: bool = False,
    heartbeat: Heartbeat = NO_HEARTBEAT,
    profile: Profile | None = None,
    sinks: SinkThreads | None = None,
) -> Trainer:
    """Inspect the spec, open the data and build the trainer. Collective.

    ``inspect`` returns the inspected spec; ``heartbeat`` gets each phase of this rank, and
    ``profile`` records its times. ``sinks`` get the events of rank 0, and the sinks of the
    spec are added to them. All other arguments are those of ``Trainer``.

    Raises InvalidInput on every rank.
    """
    inspected = all_or_none(communicator, inspect)
    prepared = all_or_none(communicator, lambda: prepare(inspected, communicator.size))
    setup = fit_scaling(replace(prepared, heartbeat=heartbeat), communicator)
    if profile is not None:
        communicator = profile.traced(communicator)
        profile.trace_layers(setup.model)
    events = sink
    if sinks is not None and communicator.rank == 0:
        sinks.add(setup.resolved.sinks, setup.resolved.document)
        events = FanOut(sink, sinks)
    return Trainer(
        setup, communicator, sink=events, control=control, checkpoints=checkpoints,
        resume=resume, max_seconds=max_seconds, detach=detach,
    )  # fmt: skip
