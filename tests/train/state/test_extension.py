"""Change the length of a resumed run: options, refusals and records."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import InvalidInput
from dbp.job.spec.document import with_train
from dbp.job.spec.load import parse_file, resolve_file
from dbp.job.spec.resolve import resolve
from dbp.job.state import RunOutcome
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.build import build
from dbp.train.check.inspection import inspect
from dbp.train.report.run_folder import RunFolder
from dbp.train.state.checkpoint import glance
from dbp.train.state.continuation import Terms, zero_rate_note
from dbp.train.state.extension import Longer, check_resumable, extended
from dbp.train.trainer import Trainer
from tests.train.setups import Recorder

COSINE = {"kind": "cosine", "peak": 0.1, "floor": 0.001}
PER_EPOCH = 10


def spec_of(rate: Any, **train: Any) -> dict[str, Any]:
    return {
        "name": "longer",
        "data": {"train": {"kind": "teacher", "samples": 100, "inputs": 4, "outputs": 3}},
        "model": {"layers": [{"kind": "dense", "units": 3}], "loss": "softmax_cross_entropy"},
        "optimizer": {"kind": "momentum", "learning_rate": rate},
        "train": {"batch_size": 10, **train},
    }


def run(
    folder: Path, spec: object, *, resume: bool = False, **terms: Any
) -> tuple[RunOutcome, bytes, list[float]]:
    """A run or its continuation; outcome, parameters and the learning rates of the epochs."""
    setup = build(inspect(resolve(spec)))
    document = dict(setup.resolved.document)
    sink = RunFolder.resume(folder, document) if resume else RunFolder.prepare(folder, document)
    try:
        trainer = Trainer(
            setup, SoloCommunicator(), sink=sink, checkpoints=folder / "checkpoints",
            resume=Terms(**terms) if resume else False,
        )  # fmt: skip
        outcome = trainer.run()
    finally:
        sink.close()
    lines = (folder / "metrics.jsonl").read_text().splitlines()[:-1]
    rates = [json.loads(line)["learning_rate"] for line in lines]
    return outcome, trainer.parameters.vector.tobytes(), rates


def lengthen(
    folder: Path, *, new_data: bool = False, **asked: Any
) -> tuple[RunOutcome, bytes, list[float]]:
    """What `dbp train --resume` does with its options."""
    longer = Longer(**asked)
    spec = extended(parse_file(folder / "spec.json"), folder, longer, new_data=new_data)
    return run(folder, spec, resume=True, new_data=new_data, extended=longer.length)


def test_an_extended_run_with_a_constant_rate_equals_one_long_run(
    tmp_path: Path,
) -> None:
    run(tmp_path / "run", spec_of(0.1, epochs=3))
    found = lengthen(tmp_path / "run", epochs=8)
    expected = run(tmp_path / "long", spec_of(0.1, epochs=8))

    assert found[1:] == expected[1:]
    specs = [(tmp_path / name / "spec.json").read_text() for name in ("run", "long")]
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    "rate",
    [
        COSINE,
        {"kind": "one_cycle", "peak": 0.1},
        {"kind": "polynomial", "rate": 0.1},
        {"kind": "warmup", "steps": 5, "then": COSINE},
    ],
)
def test_extending_needs_schedule_if_the_rate_depends_on_the_length(
    tmp_path: Path, rate: dict[str, Any]
) -> None:
    run(tmp_path / "run", spec_of(rate, epochs=3))

    with pytest.raises(InvalidInput, match=r"schedule='keep' .* or schedule='stretch'"):
        lengthen(tmp_path / "run", epochs=8)
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    "rate",
    [
        0.1,
        {"kind": "step", "every": 7},
        {"kind": "exponential", "rate": 0.1},
        {"kind": "inverse_square_root", "peak": 0.1},
        {"kind": "polynomial", "rate": 0.1, "steps": 50},
        {"kind": "cosine_restarts", "peak": 0.1, "period": 9},
        {"kind": "multi_step", "milestones": [4]},
        {"kind": "warmup", "steps": 5, "then": 0.1},
    ],
)
def test_schedule_is_refused_if_the_rate_does_not_depend_on_the_length(
    tmp_path: Path, rate: Any
) -> None:
    run(tmp_path / "run", spec_of(rate, epochs=2))

    with pytest.raises(InvalidInput, match="does not depend on its length; remove"):
        lengthen(tmp_path / "run", epochs=4, schedule="keep")
    found = lengthen(tmp_path / "run", epochs=4)
    assert found[1:] == run(tmp_path / "long", spec_of(rate, epochs=4))[1:]


def test_keep_continues_at_the_last_rate_and_a_later_resume_repeats_it(tmp_path: Path) -> None:
    run(tmp_path / "run", spec_of(COSINE, epochs=3))
    short = run(tmp_path / "short", spec_of(COSINE, epochs=3))[2]

    _, parameters, rates = lengthen(tmp_path / "run", epochs=5, schedule="keep")
    resolved = resolve_file(tmp_path / "run" / "spec.json")

    assert rates == [*short, 0.001, 0.001]
    assert resolved.spec.train.schedule_steps == (30,)
    assert run(tmp_path / "at once", resolved.document)[1] == parameters
    assert lengthen(tmp_path / "run", epochs=6, schedule="keep")[2] == [*short, *3 * [0.001]]


@pytest.mark.parametrize(
    "rate",
    [
        {"kind": "polynomial", "rate": 0.1},
        {"kind": "one_cycle", "peak": 0.1},
        {"kind": "warmup", "steps": 5, "then": {"kind": "polynomial", "rate": 0.1}},
    ],
)
def test_a_kept_rate_stays_at_the_last_one_that_was_applied(
    tmp_path: Path, rate: dict[str, Any]
) -> None:
    short = run(tmp_path, spec_of(rate, epochs=3))[2]

    assert lengthen(tmp_path, epochs=5, schedule="keep")[2] == [*short, short[-1], short[-1]]


def test_stretch_plans_the_new_length_from_the_present_step_on(tmp_path: Path) -> None:
    run(tmp_path / "run", spec_of(COSINE, epochs=3))
    short = run(tmp_path / "short", spec_of(COSINE, epochs=3))[2]
    long = run(tmp_path / "long", spec_of(COSINE, epochs=6))[2]

    _, parameters, rates = lengthen(tmp_path / "run", epochs=6, schedule="stretch")
    resolved = resolve_file(tmp_path / "run" / "spec.json")

    assert rates == [*short, *long[3:]]
    assert resolved.spec.train.schedule_steps == (30, 30)
    assert run(tmp_path / "at once", resolved.document)[1] == parameters
    again = lengthen(tmp_path / "run", epochs=7, schedule="keep")[2]
    assert again == [*short, *long[3:], 0.001]
    resolved = resolve_file(tmp_path / "run" / "spec.json")
    assert resolved.spec.train.schedule_steps == (30, 30, 60)


def test_an_extension_that_dies_is_resumed_with_the_same_options_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = None
    choices: tuple[dict[str, Any], ...] = ({}, {"epochs": 6, "schedule": "stretch"})
    for options in choices:
        folder = tmp_path / str(len(options))
        run(folder, spec_of(COSINE, epochs=3))
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_loop", lambda self: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                lengthen(folder, epochs=6, schedule="stretch")
        assert not (folder / "result.json").exists()

        found = lengthen(folder, **options)

        assert found[0].step == 60
        expected = expected or found[1:]
        assert found[1:] == expected
        assert resolve_file(folder / "spec.json").spec.train.schedule_steps == (30, 30)


def test_a_run_ended_by_time_continues_to_its_planned_end(tmp_path: Path) -> None:
    spec = spec_of(COSINE, epochs=6)
    whole = run(tmp_path / "long", {**spec, "train": {**spec["train"]}})
    limited = {**spec, "train": {**spec["train"], "max_seconds": 1e-9}}
    outcome, _, _ = run(tmp_path / "run", limited)
    assert (outcome.reason, outcome.step) == ("time", 1)

    with pytest.raises(InvalidInput, match="add max_seconds=SECONDS, the time from here on"):
        lengthen(tmp_path / "run")
    with pytest.raises(InvalidInput, match="add max_seconds"):
        lengthen(tmp_path / "run", epochs=9, schedule="keep")
    found = extended(parse_file(tmp_path / "run" / "spec.json"), tmp_path / "run",
                     Longer(max_seconds=5.0))  # fmt: skip
    assert found == parse_file(tmp_path / "run" / "spec.json")
    unlimited = with_train(found, max_seconds=None)
    assert run(tmp_path / "run", unlimited, resume=True)[1:] == whole[1:]


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (
            {"metric": "training_loss", "target": 9.0},
            r"early .*\(train\.stop\.target\)",
        ),
        (
            {"metric": "training_loss", "patience": 1, "tolerance": 9.0},
            r"early .*stop\.patience\)",
        ),
    ],
)
@pytest.mark.parametrize("asked", [{}, {"epochs": 90}, {"max_seconds": 5.0}])
def test_a_run_that_stopped_early_is_not_extended(
    tmp_path: Path, stop: dict[str, Any], words: str, asked: dict[str, Any]
) -> None:
    folder = tmp_path / "gr\u00f6\u00dfe \U0001f600"
    run(folder, spec_of(0.1, epochs=30, stop=stop))

    with pytest.raises(InvalidInput, match=words) as raised:
        check_resumable(folder, Longer(**asked))

    line = str(raised.value).rpartition("under [train]: ")[2]
    assert tomllib.loads(line) == {"initial_parameters": f"{folder}/parameters.safetensors"}


def test_extending_an_ended_run_needs_a_length_and_a_checkpoint(
    tmp_path: Path,
) -> None:
    run(tmp_path, spec_of(0.1, epochs=2))

    with pytest.raises(InvalidInput, match=r"all of its epochs are done .*epochs=N"):
        check_resumable(tmp_path)
    with pytest.raises(InvalidInput, match="all of its epochs are done"):
        check_resumable(tmp_path, Longer(max_seconds=3.0))
    for path in (tmp_path / "checkpoints").glob("step-*/manifest.json"):
        path.write_text("{}")
    assert glance(tmp_path / "checkpoints") is None
    with pytest.raises(InvalidInput, match="contains no sound checkpoint to continue from"):
        lengthen(tmp_path, epochs=4)


def test_a_spec_edited_by_hand_does_not_stretch_a_rate_in_silence(tmp_path: Path) -> None:
    run(tmp_path / "run", spec_of(COSINE, epochs=3))

    with pytest.raises(InvalidInput, match="was planned for 30 steps, and the run has 60 now"):
        run(tmp_path / "run", spec_of(COSINE, epochs=6), resume=True)
    rates = run(tmp_path / "run", spec_of(COSINE, epochs=6, schedule_steps=[30]),
                resume=True)[2]  # fmt: skip
    assert rates[3:] == [0.001] * 3


def test_schedule_needs_another_length(tmp_path: Path) -> None:
    run(tmp_path, spec_of(COSINE, epochs=3, max_seconds=1e-9))

    with pytest.raises(InvalidInput, match=r"^schedule needs another length; add epochs=N"):
        lengthen(tmp_path, max_seconds=3.0, schedule="keep")


def test_a_kept_rate_of_zero_gives_a_warning(tmp_path: Path) -> None:
    rate = {"kind": "cosine", "peak": 0.1}
    longer = build(inspect(resolve(spec_of(rate, epochs=6, schedule_steps=[30]))))
    whole = build(inspect(resolve(spec_of(rate, epochs=6))))

    assert "ends at step 30 with a rate of 0" in zero_rate_note(longer)
    assert zero_rate_note(whole) == ""


def test_the_plan_of_a_short_run_needs_no_checkpoint_section(tmp_path: Path) -> None:
    recorder = Recorder()
    setup = build(inspect(resolve(spec_of(0.1, steps=3))))
    Trainer(setup, SoloCommunicator(), sink=recorder, checkpoints=tmp_path).run()

    found = glance(tmp_path)
    assert found is not None
    step, _, facts = found
    assert (step, facts["total_steps"]) == (3, 3)
