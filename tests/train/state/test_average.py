"""The running mean of the parameters: its formula, after a resume, and when it is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.train.report.sink import Command
from dbp.train.state.average import Average
from dbp.train.trainer import Trainer
from tests.train.setups import Array, AskAt, Recorder, document, make_setup, samples


def test_average_follows_the_formula() -> None:
    parameters = Parameters.zeros({"w": (3,)}, np.float64)
    parameters.vector[:] = 1, 2, 3
    average = Average(0.9, parameters)
    average.start()
    expected = np.array([1.0, 2, 3])

    for step in range(1, 101):
        parameters.vector[:] = step, -step, 0.5
        average.follow(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameters.vector

    np.testing.assert_allclose(average.parameters.vector, expected, rtol=1e-13)
    assert parameters["w"].tolist() == [100, -100, 0.5]


def train(
    size: int, folder: Path | None, *, resume: bool = False, stop: int = 0
) -> tuple[Recorder, Array]:
    spec = document(batch_size=8, epochs=4, average=0.95, numerics="exact")
    recorder = Recorder()

    def main(communicator: Communicator) -> Array:
        trainer = Trainer(
            make_setup(spec, samples(40), validation=samples(16, seed=2)),
            communicator, sink=recorder, checkpoints=folder, resume=resume,
            control=AskAt(stop, Command.STOP) if stop else None,
        )  # fmt: skip
        trainer.run()
        return trainer.parameters.vector.copy()

    return recorder, run_threads(size, main)[0]


def test_running_mean_is_served_and_survives_a_resume(tmp_path: Path) -> None:
    whole, trained = train(1, None)
    final = whole.snapshots[-1][1]
    assert whole.snapshots[-1][0].final
    assert not np.array_equal(final, trained)
    assert 0 < np.abs(final - trained).max() < 0.2

    train(2, tmp_path / "checkpoints", stop=7)
    resumed, _ = train(3, tmp_path / "checkpoints", resume=True)

    assert resumed.snapshots[-1][1].tobytes() == final.tobytes()
    assert resumed.outcomes[-1].metrics == whole.outcomes[-1].metrics
