"""A service with a quota of disk and a time to live, while readers read."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from dbp.client.client import Client
from dbp.errors import NotFound
from dbp.job.state import State
from dbp.storage.disk_use import used_bytes
from tests.cli.setups import Server, until, write_spec
from tests.deadline import DEADLINE

MB = 1_000_000
# The log of the database and the space held back for a full disk are in the state folder, too.
BASE = 30 * MB
JOBS = 6


def wide(path: Path) -> Path:
    """A job of a few steps whose versions and checkpoints take megabytes."""
    spec = write_spec(path, steps=3)
    spec.write_text(spec.read_text().replace("units = 16", "units = 8000"))
    return spec


def test_a_quota_is_met_while_readers_read(tmp_path: Path) -> None:
    spec = wide(tmp_path / "job.toml")
    with Server(tmp_path / "probe") as server, Client(server.address) as client:
        assert client.submit(spec).wait().state is State.SUCCEEDED
        size = used_bytes(server.state / "jobs")
    assert size > 5 * MB
    limit = BASE + 3 * size
    errors: list[BaseException] = []
    finished = threading.Event()

    with (
        Server(tmp_path / "state", "--max-disk", f"{limit}B") as server,
        Client(server.address, patience=DEADLINE) as client,
    ):

        def read() -> None:
            """Read all jobs: each read returns verified bytes, or the job is not found."""
            try:
                while not finished.is_set():
                    for job in client.jobs(State.SUCCEEDED):
                        try:
                            found = client.job(job.id).parameters()
                        except NotFound:
                            continue
                        assert found is not None
                        content = hashlib.sha256(found["0.weight"].tobytes()).hexdigest()
                        contents.add(content)
            except BaseException as error:
                errors.append(error)

        contents: set[str] = set()
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            first = client.submit(spec)
            assert first.wait().state is State.SUCCEEDED
            first.pin(at="latest")
            jobs = [first]
            for _ in range(JOBS - 1):
                jobs.append(client.submit(spec))
                assert jobs[-1].wait().state is State.SUCCEEDED
            until(lambda: used_bytes(server.state) <= limit)
            until(lambda: len(list((server.state / "jobs").iterdir())) < JOBS)
        finally:
            finished.set()
            for reader in readers:
                reader.join(timeout=DEADLINE)

        assert not errors, errors
        assert len(contents) == 1, "the same spec gives the same bits"
        left = [job.id for job in client.jobs()]
        assert first.id in left, "it is pinned"
        assert jobs[-1].id in left
        assert left == sorted(left, key=[job.id for job in jobs].index, reverse=True)
        log = server.state.with_suffix(".log").read_text()
        gone = [job.id for job in jobs if job.id not in left]
        assert gone == [job.id for job in jobs[1 : 1 + len(gone)]], "the oldest went first"
        for job_id in gone:
            assert log.count(f"job {job_id}: deleted: the state folder used ") == 1


def test_a_time_to_live_deletes_jobs_in_a_real_service(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "job.toml", steps=3)
    with (
        Server(tmp_path / "state", "--keep-ended", "1s") as server,
        Client(server.address) as client,
    ):
        job = client.submit(spec)
        job.wait()

        until(lambda: not list(client.jobs()))
        until(lambda: not (server.state / "jobs" / job.id).exists())
