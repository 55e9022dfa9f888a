"""`dbp demo`: run the main job from submit to evaluation on real data, then clean up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import click
import psutil

from dbp.cli.arguments.ranges import SMALL_COUNT
from dbp.errors import TrainingFailed
from dbp.exit_codes import exit_text
from dbp.quantities import count_text, duration_text

if TYPE_CHECKING:
    from dbp.client.client import Client
    from dbp.client.job import JobHandle
    from dbp.client.transport.streams import JobUpdate
    from dbp.job.state import Job

LEAST_ACCURACY: Final = 0.96  # of the test images
# The demo stops training after this time, once the parameters have been shown and the accuracy
# of validation, over fewer images, is high enough. The spec's max_seconds is the hard limit.
TRAINING_SECONDS: Final = 8.0
ENOUGH_ACCURACY: Final = 0.98
GRACE_SECONDS: Final = 30.0  # for the step under way and the last version, on a busy machine
STOP_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 3.0  # no one restarts the demo's service
FORCE_SECONDS: Final = 10.0  # a supervisor needs one or two, more on a busy machine
# Fraction of the run, or seconds, until there is something to see.
ASK_AFTER_STEPS: Final = 0.1
ASK_AFTER_SECONDS: Final = 5.0
FIRST_VERSION_SECONDS: Final = 20
TERMINATED: Final = 128 + signal.SIGTERM


@click.command()
@click.option(
    "--workers", "-n", type=SMALL_COUNT, default=2, show_default=True,
    help="Processes to train with.",
)  # fmt: skip
def demo(workers: int) -> None:
    """See everything work, in under a minute.

    Starts a control service, submits a job, trains the embedded UCI digits on several MPI
    processes, asks for the live parameters from another process meanwhile, evaluates the
    trained model without MPI, and stops the service and the job.
    """
    from dbp.client.client import Client

    began = time.monotonic()
    signal.signal(signal.SIGTERM, _terminated)  # to be left like a Ctrl-C, cleaning up
    with tempfile.TemporaryDirectory(prefix="dbp-demo-") as folder:
        with _nothing_left(folder), _service(Path(folder) / "state", workers) as address:
            click.echo(f"1. control service    {address}")
            with Client(address, patience=PATIENCE_SECONDS) as client:
                Demo(client, address).run(workers)
        _check_closed(address)
    click.echo(
        f"6. stopped            the service; no process, no port, no file is left "
        f"({duration_text(time.monotonic() - began)} in all)"
    )


@final
class Demo:
    """The steps that need a service."""

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address
        self._asked = False
        self._stopped = False

    def run(self, workers: int) -> None:
        """Submit, watch, ask, evaluate; raises TrainingFailed if one of these steps fails."""
        with as_file(files("dbp.cli") / "digits.toml") as spec:
            job = self._client.submit(spec, workers=workers)
        click.echo(f"2. job                {job.id}, {count_text(workers, 'worker')}")
        click.echo("3. training           live, with a look at the parameters meanwhile:")
        self._follow(job)
        ended = job.get()
        if ended.state != "SUCCEEDED" and not (self._stopped and ended.state == "CANCELLED"):
            raise TrainingFailed(_failure(job, ended))
        if not self._asked:
            raise TrainingFailed("the job ended before its parameters could be asked for")
        verdict = "stopped on request" if self._stopped else str(ended.state)
        click.echo(f"4. {job.id}      {verdict}")
        self._evaluate(job)

    def _follow(self, job: JobHandle) -> None:
        from dbp.cli.screen.follow import BarView, text_view

        view = text_view()
        first: float | None = None
        try:
            for update in job.watch():
                view.show(update)
                if update.progress is not None and first is None:
                    first = time.monotonic()
                if not self._asked and _far_enough(update, first):
                    self._ask(job, view.say if isinstance(view, BarView) else click.echo)
                if self._asked and not self._stopped and _trained_enough(update, first):
                    self._stopped = True
                    job.cancel(grace_seconds=GRACE_SECONDS)
        finally:
            view.close()

    def _ask(self, job: JobHandle, say: Callable[[str], None]) -> None:
        """Show the parameters by another process; counts only if the job is still running."""
        shown = self._dbp("params", job.id, "--wait", str(FIRST_VERSION_SECONDS))
        state = job.get().state
        if state != "RUNNING":
            return
        self._asked = True
        say(f"   `dbp params {job.id}` in another process, the job being {state}:")
        for line in shown.splitlines():
            say(f"     {line}")

    def _evaluate(self, job: JobHandle) -> None:
        """Have a process without MPI measure the fetched parameters."""
        figures: dict[str, Any] = json.loads(self._dbp("evaluate", job.id, "--output", "json"))
        accuracy, samples = figures["accuracy"], figures["samples"]
        click.echo(
            f"5. test accuracy      {accuracy:.4f} on {samples} images never trained on, by a "
            "process without MPI"
        )
        if accuracy < LEAST_ACCURACY:
            progress = job.get().progress
            reached = f" after epoch {progress.epoch}" if progress else ""
            raise TrainingFailed(
                f"test accuracy {accuracy:.4f} is below {LEAST_ACCURACY}{reached}, when the "
                "demo's time was over; is this machine very busy? Try again later, or with one "
                "process: dbp demo --workers 1"
            )

    def _dbp(self, *arguments: str) -> str:
        """Return the output of another dbp process."""
        command = [sys.executable, "-m", "dbp", *arguments, "--service", self._address]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            text = done.stderr.strip() or exit_text(done.returncode)
            raise TrainingFailed(f"dbp {' '.join(arguments)}: {text}")
        return done.stdout


@contextlib.contextmanager
def _service(state: Path, workers: int) -> Iterator[str]:
    """A `dbp serve` of its own; stopped, with every job, when the context ends."""
    command = [
        sys.executable, "-m", "dbp", "serve", "--port", "0", "--state", str(state),
        "--slots", str(workers), "--output", "json",
    ]  # fmt: skip
    with (state.parent / "service.log").open("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # a Ctrl-C is for the demo, which then stops the service
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                errors.seek(0)
                raise TrainingFailed(f"the service did not start: {errors.read().strip()}")
            address = str(json.loads(line)["address"])
            try:
                yield address
            finally:
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)  # finish the clean-up
                _end_jobs(address)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def _end_jobs(address: str) -> None:
    """Cancel every job that still runs: jobs outlive their service, but not the demo."""
    from dbp.client.client import Client
    from dbp.errors import DbpError

    with contextlib.suppress(DbpError), Client(address, patience=STOP_SECONDS) as client:
        for job in client.jobs():
            if not job.state.terminal:
                handle = client.job(job.id)
                handle.cancel(force=True)
                handle.wait()


def _far_enough(update: JobUpdate, first: float | None) -> bool:
    """Whether the job has trained for a while, so that a version is published.

    ``first``: when its first progress was seen.
    """
    progress = update.progress
    if progress is None or first is None:
        return False
    trained = progress.step >= ASK_AFTER_STEPS * progress.total_steps
    return trained or time.monotonic() - first >= ASK_AFTER_SECONDS


def _trained_enough(update: JobUpdate, first: float | None) -> bool:
    """Whether the demo's time is over and the model is good.

    ``first``: when its first progress was seen.
    """
    progress = update.progress
    if progress is None or first is None or time.monotonic() - first < TRAINING_SECONDS:
        return False
    return progress.metrics.get("validation_accuracy", 0.0) >= ENOUGH_ACCURACY


def _failure(job: JobHandle, ended: Job) -> str:
    from dbp.cli.screen.follow import ended_text

    text = ended_text(ended)
    if ended.failure is None or not ended.failure.log_tail:  # else it is in the text
        text += "".join(f"\n  {line}" for line in job.logs())
    return text


def _check_closed(address: str) -> None:
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        probe.settimeout(1.0)
        if probe.connect_ex((host, int(port))) == 0:
            raise TrainingFailed(f"something still listens at {address}")


@contextlib.contextmanager
def _nothing_left(folder: str) -> Iterator[None]:
    """No process that knows the demo's folder may be left: named, and ended, if there is."""
    wait = PATIENCE_SECONDS
    try:
        yield
        wait = STOP_SECONDS
    finally:
        deadline = time.monotonic() + wait
        while (left := _processes_of(folder)) and time.monotonic() < deadline:
            time.sleep(0.05)
        _end(left)
    if left:
        raise TrainingFailed(f"still there, and ended by force: {', '.join(map(str, left))}")


def _end(processes: list[psutil.Process]) -> None:
    """Kill processes: supervisors first, which end their ranks and remove their folders."""
    from dbp.launch import supervisor
    from dbp.launch.scratch import memory_parent, sweep, temporary_parent
    from dbp.launch.stop_request import FORCE_SIGNAL

    for number in (FORCE_SIGNAL, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if number == signal.SIGKILL or supervisor.__name__ in process.cmdline():
                    process.send_signal(number)
        # The folders of a process that has not ended yet count as in use.
        psutil.wait_procs(processes, timeout=FORCE_SECONDS)
    sweep([memory_parent(os.environ), temporary_parent()])


def _processes_of(folder: str) -> list[psutil.Process]:
    """Processes with the folder in their command or environment, this one apart."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), *process.environ().values()]
            if any(folder in word for word in words):
                found.append(process)
    return found


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)
