"""What publishing costs the training loop: versions on and off in turns, in the same ranks.

``python -m tests.benchmarks.publishing`` from the root of the repository. It starts a service
and, for each workload, two ranks under mpirun. Blocks of steps without publication, with the
link process, and with a gRPC thread inside rank 0 follow each other, so that what disturbs the
machine disturbs all of them; a figure is the median over the rounds of a block's mean step.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from dbp.bench.workload import WORKLOADS
from dbp.job.snapshot import Manifest, manifest_of
from dbp.job.spec.resolve import resolve
from dbp.job.state import RunOutcome
from dbp.launching import launch_environment, worker_command
from dbp.link.reporter import Reporter
from dbp.parallel.communicator import Communicator
from dbp.parallel.mpi import connect
from dbp.rpc.spec_convert import spec_to_proto
from dbp.rpc.version_convert import manifest_to_proto
from dbp.train.report.sink import Command, ParameterSnapshot, Started
from dbp.v1 import worker_service_pb2 as pb
from dbp.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.benchmarks.exact_cost import make_step
from tests.credentials import open_plain_channel

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCK_SECONDS: Final = 4.0
CHUNK_BYTES: Final = 1 << 20

Publish = Callable[[int, npt.NDArray[Any], Manifest], None]


@final
class Thread:
    """The alternative to the link: rank 0 speaks gRPC itself, on a thread of its own."""

    def __init__(self, address: str, document: Any, ranks: int) -> None:
        self._stub = WorkerServiceStub(open_plain_channel(address))
        request = pb.RegisterRunRequest(
            spec=spec_to_proto(document), workers=ranks, request_id=str(uuid.uuid4())
        )
        registered = self._stub.RegisterRun(request)
        self._job = registered.job.name
        self._metadata = (("dbp-attempt-secret", registered.secret),)
        self._ended = threading.Event()
        hello = pb.AttachHello(job=self._job, attempt=1, world_size=ranks)

        def reports() -> Iterator[pb.AttachRequest]:
            yield pb.AttachRequest(hello=hello)
            self._ended.wait()

        self._attached = self._stub.Attach(reports(), metadata=self._metadata)
        self._waiting: queue.Queue[tuple[int, npt.NDArray[Any], Manifest] | None]
        self._waiting = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def publish(self, step: int, vector: npt.NDArray[Any], manifest: Manifest) -> None:
        """Copy the parameters for the thread."""
        if not self._waiting.full():
            self._waiting.put((step, vector.copy(), manifest))

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._ended.set()
        self._attached.cancel()

    def _send(self) -> None:
        while (item := self._waiting.get()) is not None:
            step, vector, manifest = item
            header = pb.PublishHeader(
                job=self._job, attempt=1, step=step, manifest=manifest_to_proto(manifest)
            )
            data = vector.data.cast("B")
            chunks = (
                pb.PublishParametersRequest(data=bytes(data[start : start + CHUNK_BYTES]))
                for start in range(0, len(data), CHUNK_BYTES)
            )
            parts = iter([pb.PublishParametersRequest(header=header)])
            self._stub.PublishParameters(_chained(parts, chunks), metadata=self._metadata)


def _chained(*parts: Iterator[pb.PublishParametersRequest]) -> Iterator[Any]:
    for part in parts:
        yield from part


def rank_main(address: str, name: str, ranks: int, rounds: int, interval: float) -> None:
    """One rank: blocks of steps, and on rank 0 the figures."""
    # The link is made by exec, before MPI is.
    first = os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0"
    workload = WORKLOADS[name]
    document = resolve(workload.spec("", 1, {})).document
    reporter = Reporter.join(address, document, ranks) if first else None
    world = connect()
    step, parameters = make_step(workload, {}, world)
    vector = parameters.vector
    manifest = manifest_of(parameters.shapes, "F32", {})
    modes: dict[str, Publish | None] = {"none": None}
    thread: Thread | None = None
    if reporter is not None:
        reporter.started(Started(ranks, 10**9, 1.0, 1, 1, len(vector)))
        thread = Thread(address, document, ranks)
        modes["link"] = _through(reporter)
        modes["thread"] = thread.publish
    else:
        modes |= {"link": None, "thread": None}
    batch = np.arange(workload.batch_size)

    def train(number: int) -> None:
        step.run(number, batch, Command.NONE)

    def hand_out(number: int, publish: Publish) -> None:
        publish(number, vector, manifest)

    times = _blocks(world, train, modes, hand_out, rounds, interval)
    if reporter is not None and thread is not None:
        thread.close()
        reporter.finished(RunOutcome("succeeded", "steps", 1, 1))
        reporter.close()
        _print(name, vector.nbytes, times)


def _through(reporter: Reporter) -> Publish:
    def publish(step: int, vector: npt.NDArray[Any], manifest: Manifest) -> None:
        reporter.poll()
        reporter.snapshot(ParameterSnapshot(step, 1, vector, manifest))

    return publish


def _blocks(
    world: Communicator,
    train: Callable[[int], None],
    modes: dict[str, Publish | None],
    hand_out: Callable[[int, Publish], None],
    rounds: int,
    interval: float,
) -> dict[str, list[tuple[float, float]]]:
    """Of each mode (seconds a step, seconds a publication) by round."""
    number, count = 0, 5
    times: dict[str, list[tuple[float, float]]] = {mode: [] for mode in modes}
    for turn in range(-1, rounds):
        for mode, publish in modes.items():
            world.barrier()
            start = last = time.perf_counter()
            copying, published = 0.0, 0
            for _ in range(count):
                number += 1
                train(number)
                now = time.perf_counter()
                if publish is not None and now - last >= interval:
                    hand_out(number, publish)
                    copying, published = copying + time.perf_counter() - now, published + 1
                    last = now
            world.barrier()
            seconds = (time.perf_counter() - start) / count
            if turn >= 0:
                times[mode].append((seconds, copying / max(1, published)))
        if turn < 0:  # the same on every rank
            agreed = np.array([seconds])
            world.broadcast(agreed)
            count = max(5, round(BLOCK_SECONDS / float(agreed[0])))
    return times


def _print(name: str, size: int, times: dict[str, list[tuple[float, float]]]) -> None:
    plain = [seconds for seconds, _ in times["none"]]
    for mode, values in times.items():
        found = statistics.median(seconds for seconds, _ in values)
        copy = statistics.median(copying for _, copying in values)
        # Against the same round's block without publication.
        cost = statistics.median(
            seconds / base - 1 for (seconds, _), base in zip(values, plain, strict=True)
        )
        print(
            f"| {name} | {size / 1e6:.1f} | {mode} | {found * 1e3:.3f} | {cost * 100:+.1f} % "
            f"| {copy * 1e3:.2f} |",
            flush=True,
        )


def main(names: list[str], ranks: int, rounds: int, interval: float) -> None:
    """Start a service, then the ranks of each workload."""
    print("| workload | MB | publication | ms a step | cost | ms the ranks are held |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        service = subprocess.Popen(
            [sys.executable, "-m", "dbp", "serve", "--port", "0", "--state", str(state)],
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )
        try:
            while not (state / "service.json").exists():
                time.sleep(0.05)
            address = str(json.loads((state / "service.json").read_text())["address"])
            for name in names:
                command = [
                    sys.executable, "-m", "tests.benchmarks.publishing", "--rank", address,
                    "--ranks", str(ranks), "--rounds", str(rounds),
                    "--interval", str(interval), name,
                ]  # fmt: skip
                subprocess.run(
                    worker_command(ranks, command),
                    env=launch_environment(ranks),
                    cwd=ROOT,
                    check=True,
                )
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--ranks", type=int, default=2, help="1: a core is left for the rest")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between versions")
    parser.add_argument("--rank", help="address of the service: be one of its ranks")
    given = parser.parse_args()
    if given.rank:
        rank_main(given.rank, given.names[0], given.ranks, given.rounds, given.interval)
    else:
        main(given.names, given.ranks, given.rounds, given.interval)
