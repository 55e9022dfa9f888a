"""Check that a few steps of a job give the same bits on 1, 2 and 3 ranks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import final

from dbp.nn.model import Model
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.quantities import count_text
from dbp.train.build import Setup
from dbp.train.check.finding import Finding, OnProgress, ignore_progress
from dbp.train.faults.digest import sha256_of
from dbp.train.plan import make_plan
from dbp.train.report.sink import Command, Control
from dbp.train.trainer import Trainer

RANKS = (1, 2, 3)


def check_lanes(
    setup: Setup, *, steps: int = 5, on_progress: OnProgress = ignore_progress
) -> Iterator[Finding]:
    """Train ``steps`` steps with exact numerics on 1, 2 and 3 ranks, and compare the bits.

    Ranks are threads, each with its own model. With fewer than 3 lanes, there are fewer ranks.
    """
    short = _shortened(setup, steps)
    lanes = short.resolved.spec.train.lanes
    sizes = [size for size in RANKS if size <= lanes]
    digests: dict[int, set[str]] = {}
    for number, size in enumerate(sizes):
        counter = _StepCounter(on_progress, number * steps, steps * len(sizes))
        found = run_threads(size, functools.partial(_train, setup=short, counter=counter))
        failures = [message for message, _ in found if message]
        if failures:
            text = f"training on {_ranks([size])} failed: {failures[0]}"
            yield Finding("lanes", "failed", text)
            return
        digests[size] = {digest for _, digest in found}
    every = set.union(*digests.values())
    what = f"{count_text(steps, 'step')} with exact numerics on {_ranks(sizes)}"
    if len(every) == 1:
        yield Finding("lanes", "ok", f"{what}: the same bits, sha256 {every.pop()}")
        return
    list_ = "; ".join(
        f"{_ranks([size])}: {', '.join(sorted(short[:16] for short in own))}"
        for size, own in digests.items()
    )
    yield Finding(
        "lanes",
        "failed",
        f"{what} give different bits ({list_}): a layer must compute from its "
        "arguments only, and draw from workspace.random",
    )


def _train(communicator: Communicator, setup: Setup, counter: _StepCounter) -> tuple[str, str]:
    """Train one rank; return its failure ("" if none) and the digest of its parameters."""
    model = setup.model
    own = dataclasses.replace(
        setup,
        model=Model(
            model.layers,
            model.input_shape,
            dtype=model.dtype,
            loss=model.loss,
            metrics=model.metrics,
            freezes=model.freezes,
        ),
    )
    control = counter if communicator.rank == 0 else None
    trainer = Trainer(own, communicator, control=control)
    outcome = trainer.run()
    message = "" if outcome.status == "succeeded" else outcome.message
    return message, sha256_of(trainer.parameters.vector)


def _shortened(setup: Setup, steps: int) -> Setup:
    """Return the same job for ``steps`` steps, exact, without evaluations."""
    train = dataclasses.replace(
        setup.resolved.spec.train,
        steps=steps,
        epochs=None,
        numerics="exact",
        max_seconds=None,
        non_finite="fail",
        stop=None,
    )
    spec = dataclasses.replace(setup.resolved.spec, train=train)
    return dataclasses.replace(
        setup,
        resolved=dataclasses.replace(setup.resolved, spec=spec),
        plan=make_plan(train, len(setup.train)),
        validation=None,
        test=None,
    )


def _ranks(sizes: list[int]) -> str:
    """Return a text such as ``1, 2 and 3 ranks``."""
    *first, last = map(str, sizes)
    if not first:
        return count_text(sizes[0], "rank")
    return f"{', '.join(first)} and {last} ranks"


@final
class _StepCounter(Control):
    """A control that requests nothing and reports the number of steps done."""

    def __init__(self, on_progress: OnProgress, done: int, total: int) -> None:
        self._on_progress = on_progress
        self._done = done
        self._total = total

    def poll(self) -> Command:
        self._on_progress("training on several ranks", self._done, self._total)
        self._done += 1
        return Command.NONE
