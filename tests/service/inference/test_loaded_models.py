"""The cache of models: who answers while a newer version loads, and who leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from dbp.errors import CorruptParameters, VersionEvicted, VersionNotFound, WrongState
from dbp.job.snapshot import decode_header, encode_header, header_length
from dbp.job.state import Version
from dbp.nn.dense import Dense
from dbp.nn.flatten import Flatten
from dbp.nn.global_average_pool2d import GlobalAveragePool2D
from dbp.nn.layer import Layer
from dbp.nn.mean_squared_error import MeanSquaredError
from dbp.nn.model import Model
from dbp.service.inference.loaded_models import RETRY_SECONDS, LoadedModels
from dbp.service.inference.model_loading import Cost, LoadedModel, check_buffers
from dbp.versions.file import OpenVersion
from dbp.versions.index import At, VersionIndex
from tests.cost import cheap
from tests.service.inference.setups import classifier, content, drawn

JOB = "job"
NEWEST = At()


class Kept:
    """Versions in a folder, of one job; opening them waits for ``may_open``."""

    def __init__(self, folder: Path, size: int = 64) -> None:
        self.folder = folder
        self.strings = classifier(inputs=(size,))
        self.index = VersionIndex(JOB)
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.opened: list[int] = []
        self.failing: dict[int, Exception] = {}

    def publish(
        self, number: int, labels: dict[str, int] | None = None, *, model: bool = True
    ) -> None:
        tensors = drawn(self.strings, seed=number)
        manifest, data = content(tensors, self.strings if model else {})
        whole = encode_header(manifest) + data
        (self.folder / str(number)).write_bytes(whole)
        digest = hashlib.sha256(whole).hexdigest()
        version = Version(number, number, 1, digest, len(whole), 0.0)
        kept = (*self.index.kept, version)
        self.index = VersionIndex(JOB, kept, labels=labels or self.index.labels)

    def drop(self, number: int) -> None:
        kept = tuple(v for v in self.index.kept if v.version != number)
        self.index = VersionIndex(JOB, kept, labels=self.index.labels)

    async def find(self, job_id: str, at: At) -> Version:
        assert job_id == JOB
        return self.index.find(at)

    async def open(self, job_id: str, at: At) -> OpenVersion:
        self.opened.append(at.version)
        await self.may_open.wait()
        version = await self.find(job_id, at)
        if (error := self.failing.get(version.version)) is not None:
            raise error
        path = self.folder / str(version.version)
        text = path.read_bytes()
        length = header_length(text[:8], "")
        manifest = decode_header(text[8 : 8 + length], "")
        return OpenVersion(job_id, version, manifest, 8 + length, path, path.open("rb"))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def number(model: LoadedModel | None) -> int:
    return model.version.version if model else 0


async def settle() -> None:
    """Let what runs in the background, threads included, come to its end."""
    for _ in range(20):
        await asyncio.sleep(0.005)


async def test_a_newer_version_answers_once_it_is_loaded(kept: Kept) -> None:
    kept.publish(1)
    models = LoadedModels(kept)
    assert await models.ready(JOB, NEWEST) is None
    assert number(await models.get(JOB, NEWEST)) == 1

    kept.may_open.clear()
    kept.publish(2)
    assert [number(await models.ready(JOB, NEWEST)) for _ in range(3)] == [1, 1, 1]
    kept.may_open.set()
    await settle()

    assert number(await models.ready(JOB, NEWEST)) == 2
    assert kept.opened == [1, 2]


async def test_many_callers_load_a_version_once(kept: Kept) -> None:
    kept.publish(1)
    models = LoadedModels(kept)

    found = await asyncio.gather(*[models.get(JOB, NEWEST) for _ in range(8)])

    assert kept.opened == [1]
    assert all(model is found[0] for model in found)


async def test_a_caller_that_leaves_does_not_stop_the_load_of_others(kept: Kept) -> None:
    kept.publish(1)
    kept.may_open.clear()
    models = LoadedModels(kept)
    first, second = (asyncio.create_task(models.get(JOB, NEWEST)) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()
    kept.may_open.set()

    assert number(await second) == 1


async def test_an_exact_version_does_not_answer_for_the_newest(kept: Kept) -> None:
    kept.publish(1)
    kept.publish(2)
    models = LoadedModels(kept)

    assert number(await models.get(JOB, At(1))) == 1
    assert await models.ready(JOB, NEWEST) is None
    assert number(await models.get(JOB, NEWEST)) == 2
    with pytest.raises(VersionNotFound):
        await models.get(JOB, At(3))


async def test_a_label_that_moves_is_followed_in_the_background(kept: Kept) -> None:
    kept.publish(1)
    kept.publish(2, {"stable": 1})
    models = LoadedModels(kept)
    stable = At(label="stable")
    assert number(await models.get(JOB, stable)) == 1

    kept.publish(3, {"stable": 2})
    assert number(await models.ready(JOB, stable)) == 1
    await settle()

    assert number(await models.ready(JOB, stable)) == 2


async def test_a_damaged_version_leaves_the_one_before_answering(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    kept.publish(1)
    models = LoadedModels(kept)
    await models.get(JOB, NEWEST)

    kept.publish(2)
    kept.failing[2] = CorruptParameters("damaged", job=JOB)
    for _ in range(3):
        assert number(await models.ready(JOB, NEWEST)) == 1
        await settle()

    assert kept.opened == [1, 2]
    assert [record.message for record in caplog.records] == [
        "job job: version 2 cannot answer: damaged"
    ]
    with pytest.raises(CorruptParameters) as caught:
        await models.get(JOB, At(2))
    assert caught.value.metadata == {"job": JOB}
    kept.publish(3)
    await models.ready(JOB, NEWEST)
    await settle()
    assert number(await models.ready(JOB, NEWEST)) == 3


@pytest.mark.parametrize("error", [OSError("too many open files"), CorruptParameters("x")])
async def test_failed_reads_are_retried_later(kept: Kept, error: Exception) -> None:
    now = 0.0
    kept.publish(1)
    models = LoadedModels(kept, clock=lambda: now)
    await models.get(JOB, NEWEST)
    kept.publish(2)
    kept.failing[2] = error
    assert number(await models.ready(JOB, NEWEST)) == 1
    await settle()
    kept.failing.clear()
    await models.ready(JOB, NEWEST)
    await settle()
    assert number(await models.ready(JOB, NEWEST)) == 1, "at most once every few seconds"

    now = RETRY_SECONDS
    await models.ready(JOB, NEWEST)
    await settle()

    assert number(await models.ready(JOB, NEWEST)) == 2


async def test_parameters_without_a_model_are_read_once(kept: Kept) -> None:
    kept.publish(1, model=False)
    models = LoadedModels(kept)

    for at in (NEWEST, At(1), NEWEST):
        with pytest.raises(WrongState, match=r"job job: version 1: has no dbp\.model"):
            await models.get(JOB, at)

    assert kept.opened == [1]


async def test_a_label_at_a_version_without_a_model_gets_no_other_answer(kept: Kept) -> None:
    kept.publish(1)
    kept.publish(2, {"live": 1}, model=False)
    models = LoadedModels(kept)
    live = At(label="live")
    await models.get(JOB, live)

    kept.publish(3, {"live": 2})
    assert number(await models.ready(JOB, live)) == 1
    await settle()

    with pytest.raises(WrongState, match="version 2"):
        await models.ready(JOB, live)
    assert number(await models.get(JOB, NEWEST)) == 3
    kept.publish(4, {"live": 4})
    assert number(await models.ready(JOB, live)) == 1
    await settle()
    assert number(await models.ready(JOB, live)) == 4


async def test_damage_that_comes_after_the_version_was_opened_is_found(kept: Kept) -> None:
    kept.publish(1)
    path = kept.folder / "1"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)

    with pytest.raises(CorruptParameters, match="version 1 is damaged") as caught:
        await LoadedModels(kept).get(JOB, NEWEST)

    assert caught.value.metadata == {"job": JOB, "version": "1"}


async def test_a_file_is_read_whole_though_each_read_gives_less(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv

    def short(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return real(descriptor, [buffers[0][:1000]], offset)

    kept.publish(1)
    monkeypatch.setattr(os, "preadv", short)

    assert number(await LoadedModels(kept).get(JOB, NEWEST)) == 1


async def test_a_version_that_goes_while_it_is_loaded_is_followed_by_the_newest(
    kept: Kept,
) -> None:
    kept.publish(1)
    kept.may_open.clear()
    models = LoadedModels(kept)
    waiting = asyncio.create_task(models.get(JOB, NEWEST))
    exact = asyncio.create_task(models.get(JOB, At(1)))
    await asyncio.sleep(0)

    kept.publish(2)
    kept.drop(1)
    kept.may_open.set()

    assert number(await waiting) == 2
    with pytest.raises(VersionEvicted):
        await exact


async def test_memory_is_bounded_and_the_least_recently_used_go(tmp_path: Path) -> None:
    kept = Kept(tmp_path, size=5_000)
    for version in range(1, 5):
        kept.publish(version)
    size = (await LoadedModels(kept).get(JOB, At(1))).size_bytes
    models = LoadedModels(kept, max_bytes=2 * size + size // 2)

    for version in (1, 2, 1, 3):  # 2 was used longest ago
        await models.get(JOB, At(version))
        assert models.size_bytes <= 2 * size

    kept.opened.clear()
    for version in (1, 3, 2):
        await models.get(JOB, At(version))
    assert kept.opened == [2]


async def test_one_model_beyond_the_bound_answers_all_the_same(kept: Kept) -> None:
    kept.publish(1)
    kept.publish(2)
    models = LoadedModels(kept, max_bytes=1)

    assert number(await models.get(JOB, At(1))) == 1
    assert number(await models.get(JOB, At(2))) == 2
    kept.opened.clear()
    await models.get(JOB, At(2))
    assert kept.opened == []


async def test_two_models_over_the_same_parameters_do_not_share_buffers(kept: Kept) -> None:
    kept.publish(1)
    model = await LoadedModels(kept).get(JOB, NEWEST)
    x = np.ones((2, 64), np.float32)

    here = model.saved.model.forward(model.saved.parameters, x)
    there = model.apart.model.forward(model.apart.parameters, x)

    assert model.saved.parameters is model.apart.parameters
    np.testing.assert_array_equal(here, there)
    assert not np.shares_memory(here, there)


async def test_the_time_of_a_model_is_measured(kept: Kept) -> None:
    kept.publish(1)

    cost = (await LoadedModels(kept).get(JOB, NEWEST)).cost

    assert 0 < cost.seconds(0) < 30
    assert cost.seconds(1) <= cost.seconds(100)
    assert Cost(1.0, 0.5).seconds(4) == 3.0


async def test_closing_cancels_loading_models(kept: Kept) -> None:
    kept.publish(1)
    kept.may_open.clear()
    models = LoadedModels(kept)
    waiting = asyncio.create_task(models.get(JOB, NEWEST))
    await asyncio.sleep(0)

    await models.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (GlobalAveragePool2D(), r"take 14\.4 GB for one row of inputs; at most 1\.1 GB"),
        (Flatten(), r"take 43\.2 GB for one row of inputs"),
    ],
)
def test_a_forged_model_is_refused_before_it_takes_memory(layer: Layer, message: str) -> None:
    model = Model([layer], (1, 60_000, 60_000), dtype="float32", loss=MeanSquaredError())

    with cheap(), pytest.raises(WrongState, match=message):
        check_buffers("job x: version 1", model)


def test_a_model_larger_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbp.service.inference.model_loading.usable_memory", lambda: 10**6)
    model = Model([Dense(units=1000)], (100,), dtype="float32", loss=MeanSquaredError())

    with pytest.raises(
        WrongState, match=r"buffers for 256 rows take 4\.3 MB, this machine has"
    ):
        check_buffers("job x: version 1", model)
