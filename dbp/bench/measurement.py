"""Run one column of one workload once, in processes of its own, and return its step time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, final

from dbp.bench.column import Column
from dbp.bench.timed_result import TimedResult
from dbp.bench.workload import WORKLOADS
from dbp.errors import TrainingFailed
from dbp.job.spec.job_spec import TrainSpec
from dbp.launch.scratch import Scratch, make_scratch
from dbp.launching import (
    THREAD_VARIABLES,
    launch_environment,
    python_command,
    scratch_environment,
    worker_command,
)
from dbp.prctl import PR_SET_PDEATHSIG, prctl
from dbp.quantities import duration_text

POLL_SECONDS: Final = 0.02
GRACE_SECONDS: Final = 2.0
# Not inherited by other launches: torch.compile reads it.
PASSED: Final = ("CXX",)


@final
@dataclass(frozen=True)
class Sample:
    """The result of one run: the median step in seconds, and the loss of the last step."""

    seconds: float
    loss: float | None


@final
class Bench:
    """Runs measurements on ``cores`` cores, with files in ``folder``."""

    def __init__(self, folder: Path, cores: int, scratch: Scratch) -> None:
        """Use ``making`` instead of the constructor."""
        self.folder = folder
        self.cores = cores
        self._scratch = scratch

    @classmethod
    @contextlib.contextmanager
    def making(cls, folder: Path, cores: int) -> Iterator[Bench]:
        """Give a bench to the block; remove the shared memory of its runs afterwards."""
        scratch = make_scratch(f"dbp bench, process {os.getpid()}")
        try:
            yield cls(folder, cores, scratch)
        finally:
            scratch.remove()

    def measure(
        self, name: str, column: Column, steps: int, warmup: int, *, limit: float
    ) -> Sample:
        """Run the column once; its samples must be in the sub-folder ``name``.

        Raises TrainingFailed if a process fails, or after ``limit`` seconds.
        """
        result = self.folder / "result.json"
        for left in (result, Path(f"{result}.start")):
            left.unlink(missing_ok=True)
        processes, threads = column.layout(self.cores)
        commands = self._commands(name, column, steps, warmup, result)
        environment = self._environment(processes, threads)
        where = f"{name}, {column.program} ({column.settings})"
        _run(commands, environment, self._scratch.lock, where, limit)
        found = TimedResult.read(result)
        if len(found.seconds) != steps:
            raise TrainingFailed(f"{where}: timed {len(found.seconds)} of {steps} steps")
        loss = None if column.isolated else found.loss  # that of other mini-batches
        return Sample(statistics.median(found.seconds), loss)

    def _commands(
        self, name: str, column: Column, steps: int, warmup: int, result: Path
    ) -> list[list[str]]:
        """Return the processes that run a column together; their rank 0 writes ``result``."""
        processes, threads = column.layout(self.cores)
        python = [*python_command(), "-m"]
        counts = [str(steps), str(warmup), str(result)]
        folder = self.folder / name
        if column.program == "dbp":
            spec = folder / "spec.json"
            document = _spec(name, folder, column, processes, steps + warmup + 1)
            spec.write_text(json.dumps(document))
            worker = [*python, "dbp.bench.dbp_rank", str(spec), str(warmup)]
            if column.isolated:
                results = [result, *(folder / f"result-{n}.json" for n in range(1, processes))]
                return [[*worker, str(path)] for path in results]
            return [worker_command(processes, [*worker, str(result)])]
        if column.program == "jax":
            return [[*python, "dbp.bench.jax_peer", name, str(folder), *counts]]
        ranks = [[str(rank), str(processes)] for rank in range(processes)]
        if column.program == "products":
            return [[*python, "dbp.bench.products", name, *counts, *rank] for rank in ranks]
        more = [str(threads), str(int(column.compiled))]
        peer = [*python, "dbp.bench.torch_peer", name, str(folder), *counts]
        return [[*peer, *rank, *more] for rank in ranks]

    def _environment(self, processes: int, threads: int) -> dict[str, str]:
        """Return the environment of a launched rank, with the threads of every library."""
        variables = launch_environment(processes, PASSED)
        variables |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        variables["TORCHINDUCTOR_CACHE_DIR"] = str(self.folder / "compiled")
        variables["XLA_FLAGS"] = (
            f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} "
            f"intra_op_parallelism_threads={threads}"
        )
        return variables | scratch_environment(self._scratch.path, variables)


def _spec(
    name: str, folder: Path, column: Column, processes: int, steps: int
) -> dict[str, Any]:
    """Return the job of a column of dbp, with as many lanes as its processes need."""
    workload, train = WORKLOADS[name], dict(column.train)
    if column.isolated:
        workload = replace(workload, batch_size=workload.batch_size // processes)
        train["lanes"] = max(1, TrainSpec.lanes // processes)
    elif processes > TrainSpec.lanes and train.get("numerics") != "fast":
        train.setdefault("lanes", 1 << (processes - 1).bit_length())
    return workload.spec(str(folder), steps, train)


def _run(
    commands: Sequence[Sequence[str]],
    environment: dict[str, str],
    lock: int,
    where: str,
    limit: float,
) -> None:
    """Run the commands together to their end; leave no process."""
    parent = os.getpid()

    def tie() -> None:  # ends with this process, even if that is killed
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    with tempfile.TemporaryFile() as errors:  # a pipe could fill up

        def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=errors, start_new_session=True, pass_fds=[lock],
                preexec_fn=tie,  # noqa: PLW1509 - this process has one thread
            )  # fmt: skip

        started: list[subprocess.Popen[bytes]] = []
        try:
            for command in commands:
                started.append(start(command))  # noqa: PERF401 - those started must be ended
            deadline = time.monotonic() + limit
            while True:
                codes = [process.poll() for process in started]
                if any(codes):
                    code = next(filter(None, codes))
                    raise TrainingFailed(f"{where}: exit code {code}: {_last_line(errors)}")
                if None not in codes:
                    return
                if time.monotonic() > deadline:
                    raise TrainingFailed(f"{where}: not done after {duration_text(limit)}")
                time.sleep(POLL_SECONDS)
        finally:
            _end(started)


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes that remain; mpirun ends its ranks at SIGTERM."""
    _signal(started, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(p.poll() is None for p in started) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    _signal(started, signal.SIGKILL)
    for process in started:
        process.wait()


def _signal(started: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in started:
        if process.poll() is None:
            process.send_signal(number)
