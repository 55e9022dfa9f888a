"""Reporters of runs against a real service, and the versions that their links deliver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from dbp.job.snapshot import manifest_of
from dbp.job.state import ProgressReport, RunOutcome
from dbp.link.reporter import SLOTS, Reporter
from dbp.train.report.sink import ParameterSnapshot, Started
from dbp.v1 import job_pb2
from tests.deadline import DEADLINE
from tests.service.setups import Service, document, until

SHAPES = {"0.weight": (64, 10), "0.bias": (10,)}
STARTED = Started(
    world_size=1, total_steps=100, total_epochs=2.0, steps_per_epoch=50, training_samples=500,
    parameter_count=650,
)  # fmt: skip
SUCCEEDED = RunOutcome("succeeded", "steps", 100, 2, metrics={"validation_accuracy": 0.97})


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(650, np.float32)


def snapshot(
    step: int, *, final: bool = False, best: bool = False, last: bool = False
) -> ParameterSnapshot:
    manifest = manifest_of(SHAPES, "F32", {"dbp.step": str(step)})
    return ParameterSnapshot(
        step, 1, vector(step), manifest, final=final, best=best, last=final or last
    )


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
        "service_file": str(state / "service.json"), "spec": str(state.parent / "spec.json"),
        "best": str(state.parent / "best.safetensors"),
    }  # fmt: skip
    (state.parent / "spec.json").write_text(json.dumps(request.document))
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


def links() -> list[psutil.Process]:
    """The living links that this process has started."""
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            living = process.status() != psutil.STATUS_ZOMBIE
            if living and "dbp.link.process" in process.cmdline():
                found.append(process)
    return found


def link() -> psutil.Process:
    """The link; one that was killed may not be gone yet."""
    (found,) = links()
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


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The log lines of rank 0."""
    return [record.getMessage() for record in caplog.records if record.name == "dbp.rpc"]


async def training(reporter: Reporter, condition: Callable[[], object]) -> None:
    """Poll as the training loop does until the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            reporter.poll()
            await asyncio.sleep(0.002)


async def training_until_published(service: Service, reporter: Reporter, step: int) -> None:
    found = asyncio.create_task(published(service, reporter.job, step))
    await training(reporter, found.done)
    await found


async def filled(reporter: Reporter, step: int) -> None:
    """Publish a step as soon as a slot is free."""
    await training(reporter, lambda: reporter.snapshot(snapshot(step)))


async def started(service: Service, reporter: Reporter) -> psutil.Process:
    """Start the run and publish its step 10; return its link, which has freed the slot."""
    reporter.started(STARTED)
    await filled(reporter, 10)
    await training_until_published(service, reporter, 10)
    await training(reporter, lambda: len(reporter._free_slots) == SLOTS)
    return link()


def stored_steps(state: Path, job_id: str) -> list[int]:
    """Return the steps of the stored versions, in order, once their bytes are compared."""
    found = versions(state, job_id)
    for step, content in found.items():
        np.testing.assert_array_equal(content, vector(step))
    return sorted(found)
