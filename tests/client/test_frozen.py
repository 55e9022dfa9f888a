"""A frozen service (SIGSTOP): every call ends, streams notice it, and continue when it is back.

A stopped process still accepts connections and acknowledges bytes: the kernel does. So nothing
but the silence of the service shows that it is frozen.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import dbp
from dbp.errors import ClientClosed, DeadlineExceeded, Unavailable
from dbp.quantities import duration_text
from tests.client.service_process import MANY_VALUES, ServiceProcess, service_process
from tests.deadline import DEADLINE, until

TIMEOUT = 0.5  # of calls to a frozen service
SILENCE = 2.0  # of streams, and between bytes; heartbeats come every 0.1 s


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with service_process(tmp_path / "state") as service:
        yield service


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[dbp.Client]:
    with dbp.Client(service.address, patience=DEADLINE) as client:
        yield client


def late(work: Callable[[], object], seconds: float) -> DeadlineExceeded:
    """The error of a call, which must come soon after so many seconds."""
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        work()
    assert seconds - 0.1 <= time.monotonic() - began < seconds + 30
    return caught.value


def calls_of(job: dbp.JobHandle, client: dbp.Client, folder: Path) -> dict[str, Any]:
    """Every call that is answered once, with a deadline as its argument."""
    return {
        "CreateJob": lambda **limit: client.submit(SPEC, **limit),
        "GetJob": lambda **limit: client.job(job.id, **limit),
        "ListJobs": lambda **limit: list(client.jobs(**limit)),
        "CancelJob": job.cancel,
        "ListVersions": lambda **limit: list(job.versions(**limit)),
        "ListLabels": job.labels,
        "MoveLabel": lambda **limit: job.move_label("stable", 1, **limit),
        "UndoLabel": lambda **limit: job.undo_label("stable", **limit),
        "PinVersion": lambda **limit: job.pin(1, **limit),
        "PublishVersion": lambda **limit: job.publish(wait=0, **limit),
        "GetParameterInfo": job.metadata,
        "ModelMetadata": lambda **limit: job.predict([[0.0] * 6], **limit),
        "no parameters came": job.parameters,
        "no parameters": lambda **limit: job.download(folder / "never", **limit),
    }


SPEC = {
    "name": "digits",
    "data": {"train": "digits"},
    "model": {"layers": [{"kind": "dense", "units": 10}], "loss": "softmax_cross_entropy"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.1},
    "train": {"epochs": 1},
}


def test_every_call_ends_at_its_own_deadline_with_address_and_remedy(
    service: ServiceProcess, client: dbp.Client, tmp_path: Path
) -> None:
    job = client.job(service.job_id)
    calls = calls_of(job, client, tmp_path)
    service.freeze()

    with ThreadPoolExecutor(len(calls)) as threads:
        errors = {
            name: threads.submit(late, partial(call, timeout=TIMEOUT), TIMEOUT)
            for name, call in calls.items()
        }
    for name, future in errors.items():
        text = str(future.result())
        assert f"service at {service.address}: {name}" in text
        assert f"within {duration_text(TIMEOUT)}" in text
        assert "kill -CONT PID" in text
        assert "timeout=" in text

    service.thaw()
    assert client.job(service.job_id, timeout=DEADLINE).id == job.id


def test_the_clients_timeout_is_the_default_of_every_call(
    service: ServiceProcess, tmp_path: Path
) -> None:
    with dbp.Client(service.address, timeout=TIMEOUT) as client:
        job = client.job(service.job_id, timeout=DEADLINE)
        calls = calls_of(job, client, tmp_path)
        service.freeze()

        with ThreadPoolExecutor(len(calls)) as threads:
            errors = [
                threads.submit(late, call, 6 * TIMEOUT if "Model" in name else TIMEOUT)
                for name, call in calls.items()
            ]
        assert {type(error.result()) for error in errors} == {DeadlineExceeded}


async def test_the_async_client_has_the_same_deadlines(service: ServiceProcess) -> None:
    async with dbp.AsyncClient(service.address, timeout=TIMEOUT) as client:
        job = await client.job(service.job_id, timeout=DEADLINE)
        service.freeze()
        for work in (job.get, job.labels, job.parameters, lambda: job.publish(wait=0.1)):
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded, match=service.address):
                await work()
            assert time.monotonic() - began < TIMEOUT + 10


@pytest.mark.parametrize(
    "kind", [dbp.Client, dbp.AsyncClient, dbp.JobHandle, dbp.AsyncJobHandle]
)
def test_every_public_method_that_asks_the_service_takes_a_timeout(kind: type) -> None:
    asking = {
        name: inspect.signature(method).parameters
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name != "close"
    }

    assert len(asking) >= 5
    for name, parameters in asking.items():
        assert "timeout" in parameters, name
        assert parameters["timeout"].default is None, name
        assert parameters["timeout"].kind is inspect.Parameter.KEYWORD_ONLY, name


def test_parameters_with_a_wait_end_by_the_wait_and_the_timeout(
    service: ServiceProcess, client: dbp.Client
) -> None:
    job = client.job(service.job_id)
    service.freeze()

    error = late(lambda: job.parameters(wait=2, timeout=TIMEOUT), 2 + TIMEOUT)

    assert "no parameters came within 2.5 s" in str(error)
    late(lambda: job.publish(wait=1, timeout=TIMEOUT), 1 + TIMEOUT)


def test_parameters_with_a_wait_come_after_a_freeze_that_ends(
    service: ServiceProcess, client: dbp.Client
) -> None:
    job = client.job(service.job_id)
    found: list[Any] = []
    # The silence is noticed after a second, long before the wait is over.
    waiting = threading.Thread(
        target=lambda: found.append(job.parameters(wait=DEADLINE, timeout=SILENCE))
    )
    waiting.start()
    time.sleep(0.2)
    service.freeze()
    time.sleep(2 * SILENCE)
    service.thaw()
    service.tell("publish 1")
    waiting.join(DEADLINE)

    assert found[0].version.version == 1


def test_a_download_that_freezes_continues_at_the_next_byte(
    service: ServiceProcess, client: dbp.Client
) -> None:
    service.tell("large 1")
    job = client.job(service.job_id)
    frozen, counted = threading.Event(), []

    def on_bytes(received: int, total: int) -> None:
        counted.append(received)
        if not frozen.is_set() and received >= total // 4:
            service.freeze()
            frozen.set()
            threading.Timer(1.5 * SILENCE, service.thaw).start()

    found = job.parameters(on_bytes=on_bytes, timeout=SILENCE)

    assert found is not None
    assert found["0.weight"].shape == (2, MANY_VALUES)
    assert frozen.is_set()
    assert counted == sorted(set(counted)), "no byte came twice"


def test_a_download_whose_service_stays_frozen_is_given_up_after_the_patience(
    service: ServiceProcess,
) -> None:
    service.tell("large 1")
    frozen = threading.Event()

    def on_bytes(received: int, total: int) -> None:
        if not frozen.is_set() and received >= total // 4:
            service.freeze()
            frozen.set()

    with dbp.Client(service.address, patience=1) as client:
        job = client.job(service.job_id)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="no bytes of the parameters came within"):
            job.parameters(on_bytes=on_bytes, timeout=SILENCE)
        assert time.monotonic() - began < 30


def test_a_mirror_reports_the_silence_and_is_fresh_again_afterwards(
    service: ServiceProcess, client: dbp.Client
) -> None:
    service.tell("publish 1")
    with client.job(service.job_id).mirror(timeout=SILENCE) as mirror:
        first = mirror.wait(timeout=DEADLINE)
        until(lambda: mirror.error is None)
        for step in (2, 3):
            service.freeze()
            began = time.monotonic()
            until(lambda: mirror.error is not None)
            assert SILENCE - 0.2 <= time.monotonic() - began < SILENCE + 30
            assert isinstance(mirror.error, DeadlineExceeded)
            assert service.address in str(mirror.error)
            assert mirror.get() is not None, "the last version stays"
            with pytest.raises(TimeoutError, match=r"no version above 9 came.*kill -CONT"):
                mirror.wait(9, timeout=0.1)
            service.thaw()
            # Fresh again: the service lives and has nothing newer.
            until(lambda: mirror.error is None)
            service.tell(f"publish {step}")
            assert mirror.wait(step - 1, timeout=DEADLINE).version.version == step
        assert first.version.version == 1


def test_streams_continue_after_a_freeze_and_lose_nothing(
    service: ServiceProcess, client: dbp.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dbp.client")
    job = client.job(service.job_id)
    kinds: list[str] = []
    lines: list[str] = []
    versions: list[int] = []
    states: list[str] = []

    def watch() -> None:
        kinds.extend(update.kind for update in job.watch(timeout=SILENCE))

    def logs() -> None:
        lines.extend(job.logs(follow=True, timeout=SILENCE))

    def parameters() -> None:
        updates = job.watch_parameters(timeout=SILENCE)
        versions.extend(update.version.version for update in updates)

    def wait() -> None:
        states.append(job.wait().state.value)

    threads = [threading.Thread(target=work) for work in (watch, logs, parameters, wait)]
    for thread in threads:
        thread.start()
    service.tell("publish 1")
    service.tell("log one\\n")
    until(lambda: versions == [1])
    service.freeze()
    until(lambda: len([r for r in caplog.records if "trying again" in r.message]) >= 3)
    service.thaw()
    service.tell("publish 2")
    service.tell("end")
    for thread in threads:
        thread.join(DEADLINE)

    assert kinds.count("snapshot") == 1
    assert kinds.count("parameters_published") == 2
    assert kinds[-1] == "succeeded"
    assert versions == [1, 2]
    assert lines == ["one\\n"]
    assert states == ["SUCCEEDED"]
    texts = [record.message for record in caplog.records]
    for name in ("WatchJobs", "StreamLogs", "WatchParameters"):
        silent = f"service at {service.address}: {name} got no message within 2 s"
        assert any(text.startswith(silent) for text in texts), texts
    assert "the service answers again" in texts


def test_streams_of_a_service_that_stays_frozen_are_given_up_after_the_patience(
    service: ServiceProcess,
) -> None:
    with dbp.Client(service.address, patience=0.5) as client:
        job = client.job(service.job_id)
        service.freeze()
        for items in (
            job.watch(timeout=TIMEOUT),
            job.logs(follow=True, timeout=TIMEOUT),
            job.watch_parameters(timeout=TIMEOUT),
            client.watch(timeout=TIMEOUT),
        ):
            late(partial(next, items), TIMEOUT)


@pytest.mark.full
def test_a_new_connection_to_a_frozen_service_waits_until_the_deadline(
    service: ServiceProcess,
) -> None:
    """gRPC itself would give up after 20 s and say that the service cannot be reached."""
    service.freeze()
    with dbp.Client(service.address) as client:
        late(lambda: client.job(service.job_id, timeout=25), 25)
        threading.Timer(25, service.thaw).start()
        assert client.job(service.job_id, timeout=DEADLINE).id == service.job_id


def test_waiting_for_a_job_ends_at_its_timeout(
    service: ServiceProcess, client: dbp.Client
) -> None:
    job = client.job(service.job_id)
    began = time.monotonic()

    with pytest.raises(
        TimeoutError, match=f"job {job.id} has not ended within {duration_text(0.3)}"
    ):
        job.wait(timeout=0.3)
    assert time.monotonic() - began < 10
    service.freeze()
    with pytest.raises(TimeoutError, match="has not ended"):
        job.wait(timeout=0.3)


def test_a_client_of_a_frozen_service_closes_at_once(service: ServiceProcess) -> None:
    client = dbp.Client(service.address)
    job = client.job(service.job_id)
    service.freeze()
    errors: list[Exception] = []

    def wait() -> None:
        try:
            job.parameters(wait=DEADLINE)
        except Unavailable as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)
    began = time.monotonic()
    client.close()
    waiting.join(DEADLINE)

    assert time.monotonic() - began < 10
    assert isinstance(errors[0], ClientClosed)


def test_a_call_that_may_take_long_says_that_it_waits(
    service: ServiceProcess,
    client: dbp.Client,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dbp.client.transport.connection.NOTICE_SECONDS", 0.3)
    job = client.job(service.job_id)
    job.get(timeout=DEADLINE)
    assert caplog.records == []
    service.freeze()
    threading.Timer(1, service.thaw).start()

    assert job.get(timeout=DEADLINE).id == job.id

    (record,) = caplog.records
    assert record.message == (
        f"service at {service.address}: GetJob got no answer within {duration_text(0.3)}: "
        "its process is stopped (kill -CONT PID continues it) or overloaded, or needs more "
        "time (timeout=SECONDS); waiting for up to 2 min 30 s"
    )


@pytest.mark.parametrize("timeout", [float("nan"), -1, "10", True])
def test_a_timeout_that_is_none_is_refused(
    service: ServiceProcess, client: dbp.Client, timeout: Any
) -> None:
    job = client.job(service.job_id)
    attempts: list[Callable[[], object]] = [
        lambda: dbp.Client(service.address, timeout=timeout),
        lambda: job.get(timeout=timeout),
        lambda: next(job.watch(timeout=timeout)),
        lambda: job.parameters(timeout=timeout),
        lambda: job.wait(timeout=timeout),
        lambda: job.mirror(timeout=timeout),
    ]
    for attempt in attempts:
        with pytest.raises(dbp.errors.InvalidInput, match=r"timeout: must be"):
            attempt()
