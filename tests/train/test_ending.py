"""Runs that end early and are made longer: bits, figures and decisions of one long run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import InvalidInput
from dbp.job.state import RunOutcome
from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.threads import run_threads
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import Command
from dbp.train.state.checkpoint import glance
from dbp.train.state.continuation import Terms
from dbp.train.trainer import Trainer
from tests.train.poison import Poison, Poisoned
from tests.train.setups import Array, AskAt, make_setup
from tests.train.test_resume import KilledError, data, spec_of

# What decides in the course of a run, and could be disturbed by an evaluation too many.
STOP = {"metric": "validation_loss", "patience": 2, "restore_best": True}
PLATEAU = {"kind": "plateau", "rate": 0.3, "patience": 0, "factor": 0.5}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "best": {"stop": STOP},
    "best-every-2": {"stop": STOP, "evaluate_every_epochs": 2},
    "target": {"stop": {"metric": "validation_loss", "target": 0.45}},
    "training": {"stop": {"metric": "training_loss", "patience": 2, "tolerance": 0.05}},
    "average": {"average": 0.9, "stop": STOP},
    "every-4": {"evaluate_every_epochs": 4},
}


def variant(name: str, **length: Any) -> dict[str, Any]:
    spec = spec_of(**VARIANTS.get(name, {}))
    for field in ("epochs", "steps"):
        spec["train"].pop(field, None)
    spec["train"] |= length
    spec["optimizer"]["learning_rate"] = 0.3  # so much that losses rise and fall
    if name == "plateau":
        spec["optimizer"]["learning_rate"] = PLATEAU
        spec["train"]["evaluate_every_epochs"] = 2
    if "stop" in VARIANTS.get(name, {}) or name == "plateau":
        spec["data"]["validation"] = {"fraction": 0.2}  # stands for the set given apart
    del spec["checkpoint"]  # those of every 60 seconds: none but the last
    return spec


def part(
    size: int,
    folder: Path,
    spec: dict[str, Any],
    *,
    finish_at: int = 0,
    resume: bool | Terms = False,
) -> tuple[RunOutcome, Array]:
    """A part of a run in a run folder; ``finish_at``: its time is up after so many steps."""

    def main(communicator: Communicator) -> tuple[RunOutcome, Array]:
        setup = make_setup(spec, data(), validation=data(20))
        sink = None
        if communicator.rank == 0:
            document = dict(setup.resolved.document)
            sink = RunFolder.resume(folder) if resume else RunFolder.prepare(folder, document)
        try:
            trainer = Trainer(
                setup, communicator, sink=sink, checkpoints=folder / "checkpoints",
                resume=resume,
                control=AskAt(finish_at, Command.FINISH) if finish_at else None,
            )  # fmt: skip
            return trainer.run(), trainer.parameters.vector.copy()
        finally:
            if sink is not None:
                sink.close()

    return run_threads(size, main)[0]


def figures(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run, but for times and numbers of workers."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    left_out = ("time", "samples_per_second", "workers")
    return [{k: v for k, v in json.loads(line).items() if k not in left_out} for line in lines]


def assert_continues_from(folder: Path, step: int) -> None:
    newest = glance(folder / "checkpoints")
    assert newest is not None
    assert newest[0] == step


def assert_one_long_run(
    tmp_path: Path, name: str, found: tuple[RunOutcome, Array], length: dict[str, Any]
) -> None:
    expected = part(1, tmp_path / "long", variant(name, **length))
    assert found[1].tobytes() == expected[1].tobytes()
    assert (found[0].status, found[0].reason) == (expected[0].status, expected[0].reason)
    assert (found[0].step, found[0].metrics) == (expected[0].step, expected[0].metrics)
    assert figures(tmp_path / "run") == figures(tmp_path / "long")


@pytest.mark.parametrize("name", [*VARIANTS, "plateau"])
@pytest.mark.parametrize("ends", [(15,), (1, 7), (5, 10, 13), (22, 27)])
def test_a_run_in_parts_by_steps_is_one_long_run(
    tmp_path: Path, name: str, ends: tuple[int, ...]
) -> None:
    for number, end in enumerate(ends):
        spec = variant(name, steps=end)
        found = part(1 + number, tmp_path / "run", spec, resume=number > 0)
        if found[0].reason in ("converged", "target"):
            break
        assert (found[0].reason, found[0].step) == ("steps", end)
        assert_continues_from(tmp_path / "run", end)
    else:
        found = part(2, tmp_path / "run", variant(name, epochs=8), resume=True)

    assert_one_long_run(tmp_path, name, found, {"epochs": 8})


@pytest.mark.parametrize("name", [*VARIANTS, "plateau"])
@pytest.mark.parametrize("parts", [(15,), (1, 7, 4), (5, 5, 3), (22, 5)])
def test_a_chain_of_parts_ended_by_time_is_one_long_run(
    tmp_path: Path, name: str, parts: tuple[int, ...]
) -> None:
    spec = variant(name, epochs=8)
    for number, count in enumerate(parts):
        found = part(2 - number % 2, tmp_path / "run", spec, finish_at=count, resume=number > 0)
        if found[0].reason in ("converged", "target"):
            break
        assert found[0].reason == "time"
        assert_continues_from(tmp_path / "run", found[0].step)
    else:
        found = part(1, tmp_path / "run", spec, resume=True)

    assert_one_long_run(tmp_path, name, found, {"epochs": 8})


def test_variants_converge_reach_their_target_and_come_to_their_end(tmp_path: Path) -> None:
    """Else the tests above would show nothing of decisions."""
    outcomes = {name: part(1, tmp_path / name, variant(name, epochs=8))[0] for name in VARIANTS}

    found = {name: (outcome.reason, outcome.step) for name, outcome in outcomes.items()}
    assert found.pop("best") == found.pop("best-every-2") == ("converged", 30)
    assert found.pop("target") == ("target", 20)
    assert {reason for reason, _ in found.values()} == {"converged", "epochs"}


def test_the_last_steps_checkpoint_holds_the_live_parameters_not_the_best(
    tmp_path: Path,
) -> None:
    spec = variant("best", epochs=8)
    spec["optimizer"]["learning_rate"] = 0.5  # soon worse than it was
    spec["train"]["stop"] = {**STOP, "patience": 50}
    outcome, _ = part(1, tmp_path / "run", spec)
    longer = {**spec, "train": {**spec["train"], "epochs": 9}}

    found = part(2, tmp_path / "run", longer, resume=True)
    expected = part(1, tmp_path / "long", longer)

    assert outcome.reason == "epochs"
    assert found[1].tobytes() == expected[1].tobytes()
    assert figures(tmp_path / "run") == figures(tmp_path / "long")


def test_a_run_that_dies_after_its_last_checkpoint_ends_as_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = variant("best-every-2", steps=13)
    expected = part(1, tmp_path / "long", spec)

    end_epoch = Trainer._end_epoch

    def die(self: Trainer, step: int, *arguments: Any, **named: Any) -> str | None:
        if step == 13:
            raise KilledError
        return end_epoch(self, step, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_end_epoch", die)
        with pytest.raises(KilledError):
            part(1, tmp_path / "run", spec)
    found = part(2, tmp_path / "run", spec, resume=True)

    assert found[1].tobytes() == expected[1].tobytes()
    assert figures(tmp_path / "run") == figures(tmp_path / "long")


@pytest.mark.parametrize("steps", [9, 15])
def test_a_run_is_not_cut_below_or_at_the_step_it_has_reached(
    tmp_path: Path, steps: int
) -> None:
    part(1, tmp_path / "run", variant("plain", steps=15))
    before = figures(tmp_path / "run")

    terms = Terms(extended=True)
    with pytest.raises(InvalidInput, match=f"train.steps = {steps}: plans {steps} steps, 5 an"):
        part(1, tmp_path / "run", variant("plain", steps=steps), resume=terms)
    assert figures(tmp_path / "run") == before
    assert (tmp_path / "run" / "result.json").exists()


def test_rollback_after_a_resume_returns_to_the_state_after_the_open_epochs_evaluation(
    tmp_path: Path,
) -> None:
    """As one to a checkpoint that was written after the evaluation of the same epoch."""

    def life(
        folder: Path, every: int, *, resume: bool = False, stop: int = 0, bad: int = 0
    ) -> Any:
        spec = variant("best", epochs=8)
        spec["train"] |= {"non_finite": "rollback", "dtype": "float64"}
        spec["checkpoint"] = {"every_steps": every}
        poison = Poison(bad)
        setup = make_setup(spec, Poisoned(data(), poison), validation=data(20))
        document = dict(setup.resolved.document)
        sink = RunFolder.resume(folder) if resume else RunFolder.prepare(folder, document)
        trainer = Trainer(
            setup, SoloCommunicator(), sink=sink, checkpoints=folder / "checkpoints",
            resume=resume, control=AskAt(stop, Command.STOP) if stop else poison,
        )  # fmt: skip
        outcome = trainer.run()
        return trainer.parameters.vector.tobytes(), outcome.reason, figures(folder)

    life(tmp_path / "open", 10**6, stop=20)
    found = life(tmp_path / "open", 10**6, resume=True, bad=3)
    expected = life(tmp_path / "closed", 20, bad=23)

    assert found == expected
    assert [line["step"] for line in found[2]][:5] == [5, 10, 15, 20, 25]
    assert found[1] in ("converged", "epochs")
