"""`dbp.fit`: the same run as `dbp train`, in the process of a program."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from click.testing import CliRunner

import dbp
from dbp.cli.main import dbp as command
from dbp.errors import InvalidInput
from dbp.job.state import ProgressReport
from dbp.train.report.history import History
from dbp.train.stop_signals import STOP_SIGNALS
from tests.deadline import DEADLINE
from tests.train.fit_setups import blas_threads, numbers_of, samples, spec, spec_of_files

X, Y = samples()
VALIDATION = samples(60, 2)


def vector(model: dbp.FittedModel) -> bytes:
    return b"".join(array.tobytes() for array in model.parameters.values())


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


def interrupt_in_epoch(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a Ctrl-C to this process at the end of an epoch."""
    progress = History.progress

    def interrupting(history: History, report: ProgressReport) -> None:
        progress(history, report)
        if report.epoch_end and report.epoch == number:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(History, "progress", interrupting)


def test_arrays_and_the_files_of_a_spec_give_the_same_model(tmp_path: Path) -> None:
    of_arrays = dbp.fit(spec(), X, Y, validation=VALIDATION)
    of_files = dbp.fit(spec_of_files(tmp_path))

    assert vector(of_arrays) == vector(of_files)
    assert [e["validation_loss"] for e in of_arrays.history] == [
        e["validation_loss"] for e in of_files.history
    ]
    assert [e["epoch"] for e in of_arrays.history] == [1, 2, 3]


def test_a_saved_model_predicts_and_evaluates_as_the_fitted_one(tmp_path: Path) -> None:
    model = dbp.fit(spec(), X, Y, validation=VALIDATION)
    model.save(tmp_path / "model.safetensors")

    loaded = dbp.load(tmp_path / "model.safetensors")

    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert loaded.probabilities(X).tobytes() == model.probabilities(X).tobytes()
    figures = model.evaluate(*VALIDATION)
    assert loaded.evaluate(*VALIDATION) == figures
    assert figures["loss"] == pytest.approx(model.history[-1]["validation_loss"], rel=1e-6)
    assert figures["accuracy"] == np.mean(model.predict(VALIDATION[0]) == VALIDATION[1])
    assert list(model.parameters) == ["0.weight", "0.bias", "3.weight", "3.bias"]


def test_the_command_reads_what_fit_has_written(tmp_path: Path) -> None:
    document = spec_of_files(tmp_path)
    model = dbp.fit(document, run=tmp_path / "run")
    model.save(tmp_path / "own.safetensors")
    assert (tmp_path / "own.safetensors").read_bytes() == (
        tmp_path / "run" / "parameters.safetensors"
    ).read_bytes()

    inputs, out = str(tmp_path / "validation-x.npy"), str(tmp_path / "out.npy")
    predicted = CliRunner().invoke(
        command, ["predict", str(tmp_path / "run"), inputs, "-o", out]
    )
    measured = CliRunner().invoke(
        command, ["evaluate", str(tmp_path / "run"), "--on", "validation", "--output", "json"]
    )

    assert (predicted.exit_code, measured.exit_code) == (0, 0), measured.output
    assert np.load(out).tobytes() == model.predict(VALIDATION[0]).tobytes()
    figures = json.loads(measured.output)
    assert {n: figures[n] for n in ("loss", "accuracy")} == model.evaluate(*VALIDATION)


def test_class_names_of_a_table_are_predicted_and_taken(tmp_path: Path) -> None:
    lines = [f"{a:g},{b:g},{'yes' if a > 0 else 'no'}" for a, b in X[:, :2]]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,wanted", *lines]))
    document = spec() | {
        "data": {"train": {"kind": "csv", "path": str(tmp_path / "t.csv"), "target": "wanted"}}
    }

    model = dbp.fit(document)
    names = model.predict(X[:, :2])

    assert set(names) <= {"yes", "no"}
    assert set(model.evaluate(X[:, :2], names)) >= {"loss", "accuracy"}
    with pytest.raises(InvalidInput, match=r"sample 0: no class 'maybe'.*it has: no, yes"):
        model.evaluate(X[:1, :2], ["maybe"])


@pytest.mark.parametrize("targets", [Y.astype(float), Y[:, np.newaxis], Y.tolist()])
def test_targets_are_what_the_loss_learns_from(targets: Any) -> None:
    wanted = vector(dbp.fit(spec(epochs=1), X, Y))

    assert vector(dbp.fit(spec(epochs=1), X, targets)) == wanted


def test_whole_numbers_are_values_for_a_loss_of_values() -> None:
    document = spec(epochs=1)
    document["model"] = {
        "layers": [{"kind": "dense", "units": 1}],
        "loss": "mean_squared_error",
    }

    model = dbp.fit(document, X, Y)

    assert model.predict(X).shape == (200, 1)
    with pytest.raises(InvalidInput, match="gives values, no classes"):
        model.probabilities(X)


def test_scores_are_not_called_probabilities() -> None:
    document = spec(epochs=1)
    document["model"]["loss"] = "hinge"

    model = dbp.fit(document, X, Y)

    assert set(model.predict(X)) <= {0, 1, 2}
    with pytest.raises(InvalidInput, match="gives scores, no probabilities"):
        model.probabilities(X)


def test_weights_count(tmp_path: Path) -> None:
    weights = np.where(Y == 0, 0.0, 1.0)

    weighted = dbp.fit(spec(), X, Y, weights=weights)

    assert vector(weighted) != vector(dbp.fit(spec(), X, Y))
    assert weighted.evaluate(X, Y, weights=weights) != weighted.evaluate(X, Y)


def test_threads_and_handlers_are_as_before_also_after_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    during: list[object] = []
    progress = History.progress

    def watching(history: History, report: ProgressReport) -> None:
        progress(history, report)
        during.extend([blas_threads(), handlers()])
        if report.epoch == 2:
            raise ZeroDivisionError

    monkeypatch.setattr(History, "progress", watching)
    before = handlers()
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        threads = blas_threads()
        dbp.fit(spec(epochs=1), X, Y)
        assert (blas_threads(), handlers()) == (threads, before)
        with pytest.raises(ZeroDivisionError):
            dbp.fit(spec(), X, Y)
        assert (blas_threads(), handlers()) == (threads, before)
        with pytest.raises(InvalidInput):
            dbp.fit(spec(epochs=0), X, Y)
        assert (blas_threads(), handlers()) == (threads, before)

    assert during[0] == [1] * len(threads)
    assert during[1] != before


def test_ctrl_c_keeps_a_checkpoint_and_a_resume_has_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dbp.fit(spec(), X, Y, validation=VALIDATION)

    def train() -> dbp.FittedModel:
        return dbp.fit(spec(), X, Y, validation=VALIDATION, run=tmp_path / "run", resume=True)

    with monkeypatch.context() as patch:
        interrupt_in_epoch(2, patch)
        with pytest.raises(
            KeyboardInterrupt, match=r"stopped after step 15: .*resume=True"
        ) as e:
            train()
    assert type(e.value) is KeyboardInterrupt
    assert vector(getattr(e.value, "model")) != vector(whole)  # noqa: B009
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "stopped"

    resumed = train()

    assert vector(resumed) == vector(whole)
    assert numbers_of(tmp_path / "run" / "parameters.safetensors") == vector(whole)
    assert vector(train()) == vector(whole)  # ended: nothing is left to do


def test_ctrl_c_without_a_folder_leaves_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_in_epoch(1, monkeypatch)

    with pytest.raises(KeyboardInterrupt, match="stopped after step 8") as stopped:
        dbp.fit(spec(), X, Y)

    assert getattr(stopped.value, "model").predict(X).shape == (200,)  # noqa: B009


def test_a_resume_with_other_arrays_is_refused(tmp_path: Path) -> None:
    dbp.fit(spec(), X, Y, run=tmp_path / "run")
    other = X.copy()
    other[150, 2] += 1

    def resume(x: np.ndarray, **changed: Any) -> dbp.FittedModel:
        return dbp.fit(spec(epochs=4), x, Y, run=tmp_path / "run", resume=True, **changed)

    with pytest.raises(
        dbp.errors.DataChanged, match=r"(?s)other values among rows.*new_data=True"
    ):
        resume(other)
    assert vector(resume(X)) == vector(dbp.fit(spec(epochs=4), X, Y))


def test_a_change_of_any_row_of_large_arrays_is_noticed(tmp_path: Path) -> None:
    x, y = samples(200_000)  # 4 MB: of generated data a resume would read a sample only
    dbp.fit(spec(steps=1), x, y, run=tmp_path / "run")
    x[3_000, 2] += 1

    with pytest.raises(dbp.errors.DataChanged):
        dbp.fit(spec(steps=1), x, y, run=tmp_path / "run", resume=True)


def test_a_folder_with_a_run_is_kept_unless_overwrite_or_resume_is_given(
    tmp_path: Path,
) -> None:
    first = dbp.fit(spec(), X, Y, run=tmp_path / "run")

    with pytest.raises(dbp.errors.Conflict, match="overwrite=True"):
        dbp.fit(spec(), X, Y, run=tmp_path / "run")
    again = dbp.fit(spec(), X, Y, run=tmp_path / "run", overwrite=True)

    assert vector(again) == vector(first)


def test_the_service_and_job_files_cannot_name_arrays(tmp_path: Path) -> None:
    dbp.fit(spec(), X, Y, run=tmp_path / "run")
    file = tmp_path / "run" / "spec.json"

    for words in (["spec", "check", str(file)], ["evaluate", str(tmp_path / "run")]):
        refused = CliRunner().invoke(command, words)
        assert refused.exit_code != 0
        assert "'arrays'" in str(refused.exception) + refused.output
    assert vector(dbp.fit(file, X, Y)) == vector(dbp.load(tmp_path / "run"))


def test_a_run_in_a_thread_leaves_signals_alone_and_has_the_same_bits() -> None:
    wanted, before = vector(dbp.fit(spec(), X, Y)), handlers()
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(vector(dbp.fit(spec(), X, Y))))
        for _ in range(2)
    ]
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        limits = blas_threads()
        for thread in threads:
            thread.start()
        assert handlers() == before
        for thread in threads:
            thread.join(DEADLINE)
        assert blas_threads() == limits

    assert found == [wanted, wanted]


def test_inside_a_running_event_loop_as_in_a_notebook() -> None:
    async def cell() -> dbp.FittedModel:
        return dbp.fit(spec(), X, Y)

    assert vector(asyncio.run(cell())) == vector(dbp.fit(spec(), X, Y))


def test_progress_goes_to_stderr_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    dbp.fit(spec(), X, Y)
    assert capsys.readouterr() == ("", "")

    dbp.fit(spec(), X, Y, progress=True)

    out, err = capsys.readouterr()
    assert not out
    assert "epoch 3, step 21/21: training_loss" in err


def test_a_spec_of_python_objects_is_the_same_as_its_toml(tmp_path: Path) -> None:
    layers = tuple(
        dbp.Component(str(layer["kind"]), {n: v for n, v in layer.items() if n != "kind"})
        for layer in spec()["model"]["layers"]
    )
    job = dbp.JobSpec(
        name="fit",
        seed=3,
        data=dbp.DataSpec(train=dbp.Component("arrays"), scale="standard"),
        model=dbp.ModelSpec(layers=layers, loss=dbp.Component("softmax_cross_entropy")),
        optimizer=dbp.Component("adam", {"learning_rate": 0.01}),
        train=dbp.TrainSpec(batch_size=32, epochs=3),
    )
    (tmp_path / "job.toml").write_text(dbp.to_toml(job))

    wanted = vector(dbp.fit(spec(), X, Y))

    assert vector(dbp.fit(job, X, Y)) == wanted
    assert vector(dbp.fit(tmp_path / "job.toml", X, Y)) == wanted


def test_bad_rows_are_refused_by_the_model(tmp_path: Path) -> None:
    model = dbp.fit(spec(epochs=1), X, Y)

    with pytest.raises(InvalidInput, match=r"inputs of shape \(200, 4\); the model takes"):
        model.predict(X[:, :4])
    with pytest.raises(InvalidInput, match="row 1"):
        model.predict(np.where(np.arange(1000).reshape(200, 5) == 7, np.nan, X))
    with pytest.raises(InvalidInput, match=r"must end with .safetensors"):
        model.save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match="cannot be written"):
        model.save(tmp_path / "none" / "model.safetensors")


def test_a_run_that_diverges_is_an_error() -> None:
    document = spec() | {"optimizer": {"kind": "sgd", "learning_rate": 1e30}}

    with pytest.raises(dbp.errors.TrainingFailed):
        dbp.fit(document, X, Y)
