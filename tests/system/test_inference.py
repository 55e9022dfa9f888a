"""Triton's client asks a service for answers while two ranks train, and after they ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from sklearn.datasets import load_digits

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.errors import VersionEvicted
from dbp.job.state import State
from dbp.train.model.trained_model import TrainedModel
from tests.cli.setups import ENDLESS, Server, socket_of, until, write_spec

CLIENTS = 3
VERSIONS = 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as server:
        yield server


def infer(client: triton.InferenceServerClient, job: str, x: np.ndarray) -> triton.InferResult:
    tensor = triton.InferInput("inputs", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    return client.infer(job, [tensor])


def model_of(job: JobHandle, version: int) -> TrainedModel | None:
    """The version's model here, if the service still keeps it."""
    try:
        found = job.parameters(version=version)
    except VersionEvicted:
        return None
    assert found is not None
    return TrainedModel.from_bytes(bytes(found.content), "here")


def test_a_job_answers_while_it_trains_and_when_it_has_ended(
    server: Server, tmp_path: Path
) -> None:
    images = load_digits().data[:64].astype(np.float32).reshape(-1, 8, 8)
    stop = threading.Event()
    seen: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(CLIENTS)]

    def ask(found: list[tuple[int, np.ndarray]]) -> None:
        with triton.InferenceServerClient(socket_of(server)) as client:
            while not stop.is_set():
                result = infer(client, job.id, images)
                outputs = result.as_numpy("outputs")
                assert outputs is not None
                found.append((int(result.get_response().model_version), outputs))

    with Client(server.address) as client:
        job = client.submit(write_spec(tmp_path / "job.toml", steps=ENDLESS), workers=2)
        until(lambda: job.get().latest_parameters is not None)
        threads = [threading.Thread(target=ask, args=[found], daemon=True) for found in seen]
        for thread in threads:
            thread.start()
        compared = 0
        until(lambda: all(len({v for v, _ in found}) >= VERSIONS for found in seen))
        for version, outputs in [found[-1] for found in seen]:
            model = model_of(job, version)
            if model is not None:
                np.testing.assert_array_equal(outputs, model.probabilities(images))
                compared += 1
        alive = [thread.is_alive() for thread in threads]
        job.cancel()
        assert job.wait().state is State.CANCELLED
        stop.set()
        for thread in threads:
            thread.join()

        last = job.get().latest_parameters
        assert last is not None
        until(lambda: job.predict(images).version == last.version)
        final = job.predict(images)
        model = model_of(job, final.version)

    assert all(alive)
    assert compared
    for found in seen:
        numbers = [version for version, _ in found]
        assert numbers == sorted(numbers)
        for version in set(numbers):
            first, *others = [outputs for number, outputs in found if number == version]
            assert all(np.array_equal(first, other) for other in others)
    assert model is not None
    np.testing.assert_array_equal(final.outputs, model.probabilities(images))
    assert final.step == last.step
