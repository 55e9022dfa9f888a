"""Rank 0's reporter and its link, a real process, against a real service on a free port."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from dbp.errors import InvalidInput, Unavailable
from dbp.job.snapshot import manifest_of
from dbp.job.state import ProgressReport, RunOutcome
from dbp.launch.launcher import Exit
from dbp.link.process import LINGER_SECONDS
from dbp.link.reporter import BY_HAND_PATIENCE_SECONDS, MAX_EPOCHS_BACKLOG_BYTES, Reporter
from dbp.train.report.sink import Command, ParameterSnapshot, Started
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as jobs_pb
from tests.deadline import DEADLINE
from tests.service.setups import Service, document, serving, until

pytestmark = pytest.mark.processes

SHAPES = {"0.weight": (64, 10), "0.bias": (10,)}
STARTED = Started(
    world_size=1, total_steps=100, total_epochs=2.0, steps_per_epoch=50, training_samples=500,
    parameter_count=650,
)  # fmt: skip
SUCCEEDED = RunOutcome("succeeded", "steps", 100, 2, metrics={"validation_accuracy": 0.97})


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(650, np.float32)


def snapshot(step: int, *, final: bool = False) -> ParameterSnapshot:
    manifest = manifest_of(SHAPES, "F32", {"dbp.step": str(step)})
    return ParameterSnapshot(step, 1, vector(step), manifest, final=final, last=final)


def progress(step: int, *, epoch_end: bool = False) -> ProgressReport:
    figures = {"training_loss": 1 / step}
    return ProgressReport(step, 100, 1, 1 / step, figures, 1e4, None, time.time(), epoch_end)


async def launched(service: Service, state: Path) -> Reporter:
    """A job, and the reporter of its rank 0 as the worker starts it."""
    job = await service.create()
    job_id = job.name.removeprefix("jobs/")
    await until(lambda: job_id in service.launcher.runs)
    (request,) = service.launcher.requests
    launch = {
        "job": job_id, "attempt": 1, "workers": 1, "secret": request.secret,
        "service_file": str(state / "service.json"),
    }  # fmt: skip
    folder = state.parent / "attempt"
    folder.mkdir()
    (folder / "launch.json").write_text(json.dumps(launch))
    return Reporter.start(folder)


async def joined(service: Service) -> Reporter:
    """The reporter of a run launched by hand."""
    return await asyncio.to_thread(Reporter.join, service.address, document(), 1)


async def closed(reporter: Reporter, timeout: float = DEADLINE) -> float:
    """Close; returns the seconds that it took, less than ``timeout`` if the link ended."""
    began = time.monotonic()
    await asyncio.to_thread(reporter.close, timeout)
    return time.monotonic() - began


def link() -> psutil.Process:
    (found,) = (p for p in psutil.Process().children() if "dbp.link.process" in p.cmdline())
    return found


async def published(service: Service, job_id: str, step: int) -> job_pb2.Job:
    """The job once the parameters of this step are its newest."""
    async with asyncio.timeout(DEADLINE):
        while (job := await service.get(job_id)).latest_parameters.step != step:
            await asyncio.sleep(0.01)
    return job


def versions(state: Path, job_id: str) -> dict[int, np.ndarray]:
    """Step and flat parameters of each version, as the safetensors package reads them."""
    found = {}
    for path in (state / "jobs" / job_id / "parameters").glob("*.safetensors"):
        length = int.from_bytes(path.read_bytes()[:8], "little")
        step = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]["dbp.step"]
        tensors = load_file(path)
        assert {name: tensor.shape for name, tensor in tensors.items()} == SHAPES
        found[int(step)] = np.concatenate([tensors[name].ravel() for name in SHAPES])
    return found


async def test_reports_of_a_run_arrive(service: Service, tmp_path: Path) -> None:
    reporter = await launched(service, tmp_path / "state")
    reporter.started(STARTED)
    reporter.snapshot(snapshot(40))
    await published(service, reporter.job, 40)
    reporter.progress(progress(50, epoch_end=True))
    reporter.snapshot(snapshot(100, final=True))
    reporter.finished(SUCCEEDED)
    assert await closed(reporter) < DEADLINE

    job = await service.get(reporter.job)
    assert job.state == job_pb2.JOB_STATE_RUNNING
    assert (job.progress.step, job.progress.metrics["training_loss"]) == (50, 1 / 50)
    assert job.latest_parameters.final
    kept = versions(tmp_path / "state", reporter.job)
    assert sorted(kept) == [40, 100]
    for step, content in kept.items():
        np.testing.assert_array_equal(content, vector(step))
    # The reported outcome counts where its result file is missing.
    service.launcher.runs[reporter.job].end(Exit(exit_code=0))
    assert (await service.ended(reporter.job)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_run_launched_by_hand_ends_with_its_outcome(service: Service) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    reporter.snapshot(snapshot(100, final=True))
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    job = await service.ended(reporter.job)

    assert job.attached
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.latest_parameters.final


async def test_a_run_that_ends_before_its_first_step_is_reported_at_once(
    service: Service,
) -> None:
    reporter = await joined(service)
    reporter.finished(RunOutcome("failed", "INVALID_DATA", 0, 0, message="no such file"))

    assert await closed(reporter) < DEADLINE

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_FAILED
    assert job.failure.reason == job_pb2.FAILURE_REASON_INVALID_DATA
    assert job.failure.message == "no such file"


async def test_a_stopped_link_delays_no_rank_and_loses_no_outcome(
    service: Service, tmp_path: Path
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    process = link()
    process.suspend()  # a single wait for it would last for ever
    for step in range(1, 3001):
        reporter.progress(progress(step))
        reporter.poll()
    for step in (10, 20, 30):  # two slots: the third is left out
        reporter.snapshot(snapshot(step))
    reporter.progress(progress(3001, epoch_end=True))

    process.resume()
    while (await service.get(reporter.job)).latest_parameters.step != 20:
        reporter.poll()
        await asyncio.sleep(0.01)
    reporter.snapshot(snapshot(40, final=True))
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.progress.step == 3001
    assert sorted(versions(tmp_path / "state", reporter.job)) == [10, 20, 40]


async def test_the_final_parameters_wait_for_a_slot(service: Service, tmp_path: Path) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    process = link()
    process.suspend()
    reporter.snapshot(snapshot(10))
    reporter.snapshot(snapshot(20))
    last = asyncio.create_task(asyncio.to_thread(reporter.snapshot, snapshot(30, final=True)))
    done, _ = await asyncio.wait([last], timeout=0.3)
    assert not done

    process.resume()
    await last
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    assert sorted(versions(tmp_path / "state", reporter.job)) == [10, 20, 30]


async def test_training_continues_without_its_link(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    process = link()
    process.kill()
    with caplog.at_level(logging.WARNING, "dbp.rpc"):
        for step in range(1, 200):
            reporter.progress(progress(step))
            reporter.snapshot(snapshot(step))
            assert reporter.poll() is Command.NONE
            await asyncio.sleep(0.001)
        reporter.snapshot(snapshot(200, final=True))
        reporter.finished(SUCCEEDED)
        assert await closed(reporter) < DEADLINE

    assert [r.getMessage() for r in caplog.records if r.name == "dbp.rpc"] == [
        "the link to the service ended early; training continues without it"
    ]


@pytest.mark.parametrize("stopped", [False, True], ids=["service away", "link stopped"])
async def test_closing_ends_in_time(tmp_path: Path, stopped: bool) -> None:
    async with serving(tmp_path / "state") as service:
        reporter = await joined(service)
        reporter.started(STARTED)
    process = link()
    if stopped:
        process.suspend()
    reporter.snapshot(snapshot(10))
    reporter.finished(SUCCEEDED)

    assert await closed(reporter, timeout=0.5) < LINGER_SECONDS / 2

    assert not process.is_running()


async def test_the_link_finds_a_service_that_has_moved(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with serving(state) as service:
        old = service.address
        reporter = await launched(service, state)
        reporter.started(STARTED)
        reporter.progress(progress(1))
        await until(lambda: _is_announced(state, old))
        async with asyncio.timeout(DEADLINE):
            while (await service.get(reporter.job)).state != job_pb2.JOB_STATE_RUNNING:
                await asyncio.sleep(0.01)

    # Whatever happens meanwhile is kept.
    reporter.snapshot(snapshot(60))
    reporter.progress(progress(60, epoch_end=True))
    with socket.socket() as squatter:  # so that the same port is not chosen again
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", int(old.rpartition(":")[2])))
        async with serving(state) as service:
            assert service.address != old
            await published(service, reporter.job, 60)
            reporter.finished(SUCCEEDED)
            assert await closed(reporter) < DEADLINE
            job = await service.get(reporter.job)
            assert job.progress.step == 60
            service.launcher.runs[reporter.job].end(Exit(exit_code=0))
            ended = await service.ended(reporter.job)
            assert ended.state == job_pb2.JOB_STATE_SUCCEEDED


def _is_announced(state: Path, address: str) -> bool:
    return bool(json.loads((state / "service.json").read_text())["address"] == address)


async def test_a_request_to_stop_comes_down(service: Service) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    assert reporter.poll() is Command.NONE
    async with asyncio.timeout(DEADLINE):
        while (await service.get(reporter.job)).state != job_pb2.JOB_STATE_RUNNING:
            await asyncio.sleep(0.01)

    await service.jobs.CancelJob(jobs_pb.CancelJobRequest(name=f"jobs/{reporter.job}"))

    await until(lambda: reporter.poll() is Command.STOP)
    assert reporter.poll() is Command.STOP  # it stays asked
    reporter.finished(RunOutcome("stopped", "stop_requested", 3, 1))
    await closed(reporter)
    assert (await service.ended(reporter.job)).state == job_pb2.JOB_STATE_CANCELLED


async def test_nothing_is_left_when_it_is_closed(service: Service) -> None:
    before = _used()

    for _ in range(3):
        reporter = await joined(service)
        reporter.started(STARTED)
        reporter.snapshot(snapshot(1))
        reporter.finished(SUCCEEDED)
        await closed(reporter)
        await service.ended(reporter.job)

    await until(lambda: _used() == before)


def _used() -> tuple[list[Any], int, list[str]]:
    """Links, shared memory, and threads, except the pools of event loop and service."""
    links = [p for p in psutil.Process().children() if "dbp.link.process" in p.cmdline()]
    files = [_target(fd) for fd in os.listdir("/proc/self/fd")]  # noqa: PTH208
    pools = ("asyncio", "database-")
    threads = [t.name for t in threading.enumerate() if not t.name.startswith(pools)]
    return links, sum("dbp-parameters" in file for file in files), threads


def _target(number: str) -> str:
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:
        return ""


def test_an_address_without_a_service_is_reported_soon() -> None:
    began = time.monotonic()

    with pytest.raises(
        Unavailable, match='dbp serve`, or name another with address="HOST:PORT"'
    ):
        Reporter.join("127.0.0.1:1", document(), 1)

    assert time.monotonic() - began < BY_HAND_PATIENCE_SECONDS
    assert not _used()[0]


def test_an_address_that_is_none_is_bad_input() -> None:
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        Reporter.join("nonsense", document(), 1)

    assert not _used()[0]


async def test_a_spec_that_the_service_refuses_is_bad_input(service: Service) -> None:
    bad = document(optimizer={"kind": "adm", "learning_rate": 0.1})

    with pytest.raises(InvalidInput, match="optimizer") as caught:
        await asyncio.to_thread(Reporter.join, service.address, bad, 1)

    assert "did you mean 'adam'" in str(caught.value)
    assert not _used()[0]


async def test_a_ctrl_c_meant_for_the_ranks_spares_the_link(service: Service) -> None:
    reporter = await joined(service)
    process = link()

    assert os.getsid(process.pid) == process.pid  # a terminal's signals go to a session

    process.send_signal(signal.SIGKILL)
    await closed(reporter)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
async def test_a_signal_to_all_processes_of_a_run_leaves_it_a_link(
    service: Service, number: signal.Signals
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    process = link()

    process.send_signal(number)
    reporter.snapshot(snapshot(10, final=True))
    reporter.finished(RunOutcome("stopped", "stop_requested", 10, 1))
    await closed(reporter)

    job = await service.ended(reporter.job)
    assert job.latest_parameters.final
    assert job.state == job_pb2.JOB_STATE_CANCELLED


async def test_backlog_for_a_hanging_link_is_bounded(service: Service) -> None:
    reporter = await joined(service)
    process = link()
    process.suspend()

    for step in range(1, 20_000):
        reporter.progress(progress(step, epoch_end=True))

    assert len(reporter._backlog) < MAX_EPOCHS_BACKLOG_BYTES + 1_000
    process.kill()
    await closed(reporter)


async def test_without_memory_for_versions_a_run_continues_and_reports(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, size: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    reporter = await joined(service)
    reporter.started(STARTED)
    with monkeypatch.context() as context, caplog.at_level(logging.WARNING, "dbp.rpc"):
        context.setattr(os, "ftruncate", refuse)
        assert reporter.snapshot(snapshot(10))
    assert reporter.snapshot(snapshot(20, final=True))
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert not job.HasField("latest_parameters")
    assert [r.getMessage() for r in caplog.records if r.name == "dbp.rpc"] == [
        "no parameters are published: 5200 bytes: File too large"
    ]


@pytest.mark.parametrize("line", [b"hello\n", b'{"FreedSlot": {"slot": "one"}}\n'])
async def test_a_link_that_sends_no_message_does_not_end_the_run(
    service: Service, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    reporter = await joined(service)
    process = link()
    own, (reader, writer) = reporter._down, os.pipe()
    os.write(writer, line)

    reporter._down = reader
    with caplog.at_level(logging.WARNING, "dbp.rpc"):
        assert reporter.poll() is Command.NONE

    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        "the link sent a line that is no message",
        "the link to the service ended early; training continues without it",
    ]
    assert reporter.snapshot(snapshot(1))
    reporter._down = own
    os.close(reader)
    os.close(writer)
    process.send_signal(signal.SIGKILL)
    await closed(reporter)
