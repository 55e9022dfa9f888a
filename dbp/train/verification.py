"""Verify a run by computing an epoch again and comparing the parameters (``dbp verify``).

One process is enough, whatever the number of ranks that trained: with exact numerics the bits
are the same. The computation starts from the seed or from a checkpoint of the run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, final

from dbp.errors import InvalidFile, InvalidInput
from dbp.job.spec.document import with_train
from dbp.job.spec.load import located, parse_file
from dbp.job.spec.resolve import resolve
from dbp.job.state import ProgressReport, RunOutcome
from dbp.option_names import option
from dbp.parallel.communicator import SoloCommunicator
from dbp.storage.checkpoints import CHECKPOINTS
from dbp.train.build import Setup, build
from dbp.train.check.inspection import inspect
from dbp.train.report.run_contents import check_run
from dbp.train.report.run_files import METRICS, SPEC
from dbp.train.report.sink import Command, Control, ParameterSnapshot, Sink, Started
from dbp.train.state.checkpoint import CheckpointStore, arithmetic_of, glance
from dbp.train.state.continuation import Terms, check_spec
from dbp.train.state.data_identity import differences, identity_of
from dbp.train.state.position import Facts, Position
from dbp.train.state.recovery import CheckpointState
from dbp.train.trainer import Trainer


@dataclass(frozen=True)
class EpochProof:
    """One epoch as the run recorded it, and as it was computed again.

    ``begun_at`` is the step of the checkpoint that the computation started from; 0 means the
    seed. If nothing could be computed, ``reasons`` says why, and ``computed`` is empty. If the
    bits differ and so does the arithmetic, ``likely_cause`` says so.
    """

    epoch: int
    step: int
    workers: int
    begun_at: int
    recorded: str
    computed: str
    reasons: tuple[str, ...] = ()
    likely_cause: str = ""

    @property
    def same(self) -> bool:
        """Whether the parameters have the same bits."""
        return self.recorded == self.computed


def verify_run(folder: Path, epoch: int | None = None) -> EpochProof:
    """Compute an epoch of a run again; by default the last recorded one.

    Raises InvalidFile or InvalidInput if the folder has no such epoch, or if the run used fast
    numerics and several ranks, so that its bits cannot be reproduced.
    """
    check_run(folder)
    document = parse_file(folder / SPEC)
    with located(folder / SPEC):
        resolved = resolve(with_train(document, max_seconds=None))
    record = _record(folder, epoch)
    workers, step = int(record["workers"]), int(record["step"])
    if resolved.spec.train.numerics != "exact" and workers > 1:
        raise InvalidInput(
            f"{folder}: was trained by {workers} workers with fast numerics, whose last bits "
            'depend on their number; train with numerics = "exact" to verify'
        )
    setup = build(inspect(resolved))
    store = CheckpointStore(
        folder / CHECKPOINTS, setup.model.tensor_shapes, setup.model.dtype, keep=1
    )
    epoch, recorded = int(record["epoch"]), str(record["parameters_sha256"])
    newest = glance(folder / CHECKPOINTS)
    facts = newest[2] if newest is not None else Facts()
    reasons = differences(facts["data"], identity_of(setup)) if "data" in facts else ()
    if reasons:
        return EpochProof(epoch, step, workers, 0, recorded, "", reasons)
    start = _start(store, record, setup)
    begun_at = start.step if start else 0
    _check_same_data(folder, begun_at, facts.get("new_data_at", []))
    again = _Recomputation(step, int(record.get("rollbacks", 0)))
    cut = dataclasses.replace(setup, plan=setup.plan.cut_at(step), test=None)
    Trainer(cut, SoloCommunicator(), sink=again, control=again, start=start).run()
    proof = EpochProof(epoch, step, workers, begun_at, recorded, again.digest)
    if proof.same:
        return proof
    return dataclasses.replace(proof, likely_cause=_likely_cause(folder, setup))


def _likely_cause(folder: Path, setup: Setup) -> str:
    """Return that the run was computed with another arithmetic, if its checkpoints say so."""
    recorded, here = arithmetic_of(folder / CHECKPOINTS), setup.arithmetic()
    if recorded in ("", here):
        return ""
    return f"the run was computed with {recorded}; this is {here}: the last bits may differ"


def _check_same_data(folder: Path, begun_at: int, new_data_at: Iterable[int]) -> None:
    """Raise InvalidInput if steps to compute again used data that have been replaced."""
    for step in new_data_at:
        if step > begun_at:
            raise InvalidInput(
                f"{folder}: the run continued on other data after step {step:,} "
                f"({option('new_data')}), and no checkpoint from step {step:,} on is left to "
                "start from: this epoch cannot be computed again"
            )


class EpochRecord(TypedDict):
    """The line of metrics.jsonl on an epoch; it has more keys."""

    epoch: int
    step: int
    parameters_sha256: str
    workers: int
    rollbacks: NotRequired[int]
    rolled_back_to: NotRequired[int]


def _record(folder: Path, epoch: int | None) -> EpochRecord:
    """Return the record of an epoch in metrics.jsonl, by default of the last one."""
    path = folder / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
    records: dict[int, EpochRecord] = {}
    for number, line in enumerate(lines, 1):
        try:
            figures = json.loads(line)
            if "parameters_sha256" in figures:
                records[int(figures["epoch"])] = figures
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidFile(f"{path}, line {number}: {error}") from error
    if not records:
        raise InvalidInput(f"{folder}: no epoch of this run has ended yet")
    wanted = max(records) if epoch is None else epoch
    if wanted not in records:
        raise InvalidInput(f"{folder}: has epochs 1 to {max(records)}, not epoch {wanted}")
    return records[wanted]


def _start(store: CheckpointStore, record: EpochRecord, setup: Setup) -> CheckpointState | None:
    """Return the newest sound checkpoint that leads to the recorded epoch; None: the seed.

    It is a checkpoint after as many roll-backs as the epoch, or the one that the last of them
    returned to. Raises InvalidInput if there was a roll-back and no such checkpoint is left.
    """
    rollbacks, origin = int(record.get("rollbacks", 0)), int(record.get("rolled_back_to", 0))

    def after(position: Position) -> Position:
        rate = 0.5**rollbacks
        return {
            **position, "rollbacks": rollbacks, "rolled_back_to": origin, "rate_factor": rate,
        }  # fmt: skip

    for step in reversed(store.steps()):
        if step >= int(record["step"]):
            continue
        try:
            found = store.read(step)
            check_spec(store.folder, found, setup, Terms())
        except InvalidFile:  # an older checkpoint, or the seed, will do
            continue
        if step == origin or found.position["rollbacks"] == rollbacks:
            return CheckpointState(step, after(found.position), found.vectors)
    if not rollbacks:
        return None
    if origin:
        raise InvalidInput(
            f"{store.folder}: the run was rolled back to step {origin:,} before this epoch, "
            "and neither that checkpoint nor one after it is left to start from: this epoch "
            "cannot be computed again"
        )
    seed = Trainer(setup, SoloCommunicator()).state.saved()
    return CheckpointState(0, after(seed.position), seed.vectors)


@final
class _Recomputation(Sink, Control):
    """Sink and control of the second computation; stops after the epoch's last step."""

    def __init__(self, step: int, rollbacks: int) -> None:
        self._step = step
        self._rollbacks = rollbacks
        self._stop = False
        self.digest = ""

    def started(self, started: Started) -> None:
        pass

    def progress(self, progress: ProgressReport) -> None:
        undone = progress.rollbacks != self._rollbacks
        if progress.epoch_end and progress.step == self._step and not undone:
            self.digest = progress.parameters_sha256
            self._stop = True

    def rolled_back(self, step: int) -> None:
        pass

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        return True

    def finished(self, outcome: RunOutcome) -> None:
        pass

    def poll(self) -> Command:
        return Command.STOP if self._stop else Command.NONE
