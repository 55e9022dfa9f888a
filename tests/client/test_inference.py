"""Outputs asked of the service: batches, one version, what numpy arrays may be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

import dbp
from dbp.client import inference
from dbp.client.transport.connection import Connection
from dbp.errors import (
    InvalidInput,
    LabelNotFound,
    ModelNotFound,
    NotPublishedYet,
    VersionNotFound,
)
from tests.client.test_client import in_thread
from tests.service.inference.setups import (
    NAMES,
    classifier,
    constant,
    drawn,
    publish,
    regression,
    saved,
)
from tests.service.setups import Run, Service, serving


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[dbp.AsyncClient]:
    async with dbp.AsyncClient(service.address) as client:
        yield client


def rows(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 16, (count, size)).astype(np.float32)


async def test_classes_with_names(service: Service, run: Run, client: dbp.AsyncClient) -> None:
    tensors, x = drawn(classifier()), rows(5)
    version = await publish(service, run, 7, tensors, classifier())

    found = await (await client.job(run.id)).predict(x)

    expected = saved(tensors, classifier()).probabilities(x)
    np.testing.assert_array_equal(found.outputs, expected)
    assert found.classes is not None
    np.testing.assert_array_equal(found.classes, expected.argmax(axis=1))
    assert found.labels is not None
    assert found.labels.tolist() == [NAMES[i] for i in found.classes]
    assert (found.version, found.step, found.digest) == (1, 7, version.digest)


async def test_values_from_the_plain_client(service: Service, run: Run) -> None:
    tensors = drawn(regression(), "float64")
    await publish(service, run, 1, tensors, regression())
    x = rows(3, 6)

    with dbp.Client(service.address) as client:
        found = await in_thread(lambda: client.job(run.id).predict(x))

    expected = saved(tensors, regression()).predict(x.reshape(3, 2, 3))
    np.testing.assert_array_equal(found.outputs, expected)
    assert found.classes is found.labels is None


async def test_rows_with_their_axes_in_another_order_are_refused(
    service: Service, run: Run, client: dbp.AsyncClient
) -> None:
    await publish(service, run, 1, drawn(regression(), "float64"), regression())

    with pytest.raises(InvalidInput, match=r"\(3, 2\); the model takes \(2, 3\); put the axes"):
        await client.predict(run.id, rows(4, 6).reshape(4, 3, 2))


@pytest.mark.parametrize(
    "dtype", ["f2", ">f4", "<f8", "?", "u1", ">i2", "i8", ml_dtypes.bfloat16], ids=str
)
async def test_numbers_of_any_type(
    service: Service, run: Run, client: dbp.AsyncClient, dtype: Any
) -> None:
    tensors, x = drawn(classifier()), rows(5).astype(dtype)
    await publish(service, run, 1, tensors, classifier())

    found = await client.predict(run.id, x)

    expected = saved(tensors, classifier()).probabilities(x.astype(np.float32))
    np.testing.assert_array_equal(found.outputs, expected)


async def test_lists_and_no_rows(service: Service, run: Run, client: dbp.AsyncClient) -> None:
    await publish(service, run, 1, drawn(classifier()), classifier())

    one = await client.predict(run.id, [[1.0] * 64])
    none = await client.predict(run.id, np.zeros((0, 64)))

    assert one.outputs.shape == (1, 3)
    assert none.outputs.shape == (0, 3)
    assert none.classes is not None
    assert none.classes.shape == (0,)


async def test_batches_are_answered_by_the_version_of_the_first(
    service: Service, run: Run, client: dbp.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version n answers n; a new one comes between any two batches."""
    monkeypatch.setattr(inference, "MAX_BATCH_ROWS", 2)
    number = 0

    async def next_version() -> None:
        nonlocal number
        number += 1
        tensors = {
            "0.weight": np.zeros((5, 4), np.float32),
            "0.bias": np.full(5, number, np.float32),
        }
        await publish(service, run, number, tensors, constant())

    await next_version()
    call = Connection.call
    calls = []

    async def with_a_version_before(
        connection: Connection, method: Any, request: Any, timeout: float
    ) -> Any:
        calls.append(request)
        answer = await call(connection, method, request, timeout)
        await next_version()
        return answer

    monkeypatch.setattr(Connection, "call", with_a_version_before)

    found = await client.predict(run.id, rows(9, 4))

    assert len(calls) == 6
    assert number == 7
    assert (found.outputs == found.version).all()
    assert found.outputs.shape == (9, 5)
    assert found.version in (1, 2)


async def test_large_inputs_are_split(
    service: Service, run: Run, client: dbp.AsyncClient
) -> None:
    tensors, x = drawn(classifier()), rows(40_000)
    await publish(service, run, 1, tensors, classifier())
    assert x.nbytes > 4 * inference.BATCH_BYTES

    found = await client.predict(run.id, x)

    expected = saved(tensors, classifier()).probabilities(x)
    np.testing.assert_array_equal(found.outputs, expected)


async def test_a_row_that_is_not_finite_is_named_by_its_number_among_all(
    service: Service, run: Run, client: dbp.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "MAX_BATCH_ROWS", 10)
    await publish(service, run, 1, drawn(classifier()), classifier())
    x = rows(25)
    x[23, 4] = np.nan

    with pytest.raises(InvalidInput, match=r"inputs: row 23 .*, element \[4\]: nan") as found:
        await client.predict(run.id, x)

    assert found.value.metadata["row"] == "23"


async def test_metadata_of_a_version_come_without_its_tensors(
    service: Service, run: Run, client: dbp.AsyncClient
) -> None:
    for step, names in ((1, ["a"]), (2, ["b"])):
        strings = constant() | {"dbp.input_names": json.dumps(names)}
        await publish(service, run, step, drawn(constant()), strings)
    job = await client.job(run.id)

    assert (await job.metadata())["dbp.input_names"] == '["b"]'
    assert (await job.metadata(version=1))["dbp.input_names"] == '["a"]'
    with pytest.raises(VersionNotFound, match="the newest is 2"):
        await job.metadata(version=9)


async def test_columns_of_a_table_are_matched_by_name(
    service: Service, run: Run, client: dbp.AsyncClient
) -> None:
    tensors, x = drawn(classifier(inputs=(4,))), rows(5, 4)
    strings = classifier(inputs=(4,)) | {"dbp.input_names": '["a", "b", "c", "d"]'}
    await publish(service, run, 1, tensors, strings)
    table = pa.table({name: x[:, "abcd".index(name)] for name in "dbac"})

    found = await client.predict(run.id, table)

    np.testing.assert_array_equal(found.outputs, saved(tensors, strings).probabilities(x))
    with pytest.raises(InvalidInput, match="inputs: no input 'd'"):
        await client.predict(run.id, table.drop_columns(["d"]))


async def test_versions_and_labels(service: Service, run: Run, client: dbp.AsyncClient) -> None:
    for step in (1, 2):
        await publish(service, run, step, drawn(classifier(), seed=step), classifier())
    x = rows(2)

    old = await client.predict(run.id, x, version=1)

    expected = saved(drawn(classifier(), seed=1), classifier()).probabilities(x)
    np.testing.assert_array_equal(old.outputs, expected)
    with pytest.raises(VersionNotFound, match="the newest is 2"):
        await client.predict(run.id, x, version=9)
    with pytest.raises(LabelNotFound, match="stable"):
        await client.predict(run.id, x, label="stable")
    with pytest.raises(InvalidInput, match="leave one out"):
        await client.predict(run.id, x, version=1, label="stable")


async def test_predict_raises_for_unpublished_jobs_and_unknown_models(
    service: Service, run: Run, client: dbp.AsyncClient
) -> None:
    with pytest.raises(NotPublishedYet):
        await client.predict(run.id, rows(1))
    with pytest.raises(ModelNotFound, match="no such job"):
        await client.predict("nobody", rows(1))
    await publish(service, run, 1, drawn(classifier()), classifier())
    with pytest.raises(InvalidInput, match=r"rows of shape \(65,\); the model takes \(64,\)"):
        await client.predict(run.id, rows(1, 65))
    with pytest.raises(InvalidInput, match=r"is it one row\? .*numpy.expand_dims\(x, 0\)"):
        await client.predict(run.id, rows(1)[0])
    with pytest.raises(InvalidInput, match="must be numbers, got str 'a' in row 0"):
        await client.predict(run.id, [["a"] * 64])
    with pytest.raises(InvalidInput, match="version: must be >= 0"):
        await client.predict(run.id, rows(1), version=-1)
