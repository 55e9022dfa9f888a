"""Parent of mpirun for ``dbp train -n N``: owns the terminal, the signals and the exit code.

mpirun runs in a session of its own, where the terminal's Ctrl-C does not reach it: it would
kill the ranks within half a second. This process turns SIGINT, SIGTERM and SIGHUP into
SIGUSR1, which mpirun forwards and a rank takes as a request to stop after the step. It ends
the processes that mpirun leaves, and the kernel ends mpirun if this process is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

from dbp.cli.mpirun.output import RankOutput
from dbp.cli.mpirun.processes import all_can_stop, local_ranks, send
from dbp.cli.mpirun.terminal import terminal_environment
from dbp.cli.mpirun.watch import CHECK_SECONDS, RankWatch
from dbp.exit_codes import DONE, FAILED, INTERRUPTED
from dbp.launch.mpich_memory import mpich_files, remove_unused
from dbp.launch.process_tree import descendants, end_all
from dbp.launch.scratch import make_scratch
from dbp.launching import (
    is_open_mpi,
    launch_environment,
    python_command,
    scratch_environment,
    worker_command,
)
from dbp.prctl import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl

READY_SECONDS: Final = 10.0  # for ranks on other hosts, whose handlers cannot be looked at
POLL_SECONDS: Final = 0.05
STRAY_GRACE_SECONDS: Final = 1.0
KILL_GRACE_SECONDS: Final = 2.0

_STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_OTHERS: Final = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH, signal.SIGCHLD)
# nohup, or a shell without job control, asks for these to be ignored.
_STAY_IGNORED: Final = (signal.SIGHUP, signal.SIGTSTP)


def train_on_ranks(workers: int, arguments: Sequence[str], *, quiet: bool) -> int:
    """Run ``dbp`` with these arguments as this many ranks; return the exit code.

    Raises MissingDependency where there is no mpirun.
    """
    command = worker_command(workers, [*python_command(), "-m", "dbp", *arguments])
    environment = {**os.environ, **launch_environment(workers), **terminal_environment()}
    mpirun = Path(command[0])
    open_mpi = is_open_mpi(mpirun)
    if open_mpi and (mpirun.resolve().parent / "prterun").exists():
        command[1:1] = ["--output", ":raw"]  # else Open MPI 5 keeps a line until it is complete
    return MpirunParent(command, open_mpi=open_mpi, quiet=quiet).run(environment)


@final
class MpirunParent:
    """Runs one mpirun to its end."""

    def __init__(self, command: Sequence[str], *, open_mpi: bool, quiet: bool) -> None:
        """``open_mpi``: its mpirun ends the ranks and cleans up when it gets SIGTERM."""
        self._command = list(command)
        self._open_mpi = open_mpi
        self._quiet = quiet
        self._pid = 0
        self._before = mpich_files()
        self._scratch = make_scratch(f"dbp train, process {os.getpid()}")
        self._status: int | None = None
        self._asked_at: float | None = None  # when the first request to stop came
        self._forwarded = False

    def run(self, environment: Mapping[str, str]) -> int:
        """Start mpirun, wait for its end, return the exit code of the command."""
        signals = self._listen()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        output, watch = self._start(environment), RankWatch()
        while self._status is None and not watch.is_stuck(blocked=output.is_blocked()):
            self._attend(signals, output)
        status = self._status
        end_all(descendants, grace=STRAY_GRACE_SECONDS, between=self._reap)
        code = FAILED if status is None else os.waitstatus_to_exitcode(status)
        self._clean_up(code)
        while not output.is_finished():
            self._attend(signals, output)
        code = output.finish(code)
        if code < 0:
            name = signal.strsignal(-code)
            output.say(f"error: mpirun was ended by signal {-code} ({name})\n")
            code = 128 - code
        elif status is None:
            output.say(
                "error: all ranks have ended, but mpirun did not, so that it was killed; the "
                "ranks' messages, if any, name the cause; `dbp doctor` checks MPI\n"
            )
        output.show_cursor()
        while not output.is_finished():
            self._attend(signals, output)
        return code

    def _attend(self, signals: int, output: RankOutput) -> None:
        """Copy output and obey signals, as either comes."""
        waits = self._asked_at is not None and not self._forwarded and self._status is None
        if output.copy(signals, POLL_SECONDS if waits else CHECK_SECONDS):
            for number in os.read(signals, 1024):
                self._obey(signal.Signals(number), output)
        self._forward_stop()

    def _listen(self) -> int:
        """Let signals become readable bytes, seen by the loop in their order; a descriptor."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (*_STOP, *_OTHERS):
            ignored = signal.getsignal(number) is signal.SIG_IGN
            if not (ignored and number in _STAY_IGNORED):
                signal.signal(number, lambda *_: None)
        return reader

    def _start(self, environment: Mapping[str, str]) -> RankOutput:
        parent = os.getpid()
        # Open MPI's mpirun ends the ranks at SIGTERM, and grants them a moment to save.
        at_death = signal.SIGTERM if self._open_mpi else signal.SIGKILL

        # One thread only: the kernel would send the signal once for each that ends, and Open
        # MPI's mpirun exits at a second one without having ended its ranks.
        def tie() -> None:
            prctl(PR_SET_PDEATHSIG, at_death)
            if os.getppid() != parent:
                os._exit(1)

        stdout, stdout_end = os.pipe()
        stderr, stderr_end = os.pipe()
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,  # mpirun waits for the end of its input
            stdout=stdout_end,
            stderr=stderr_end,
            env={**environment, **scratch_environment(self._scratch.path, environment)},
            pass_fds=[self._scratch.lock],
            start_new_session=True,
            restore_signals=False,  # SIGPIPE stays ignored: the pipes may lose their reader
            preexec_fn=tie,  # noqa: PLW1509 (see tie)
        )
        os.close(stdout_end)
        os.close(stderr_end)
        self._pid = process.pid
        process.returncode = 0  # _reap collects it, as every other child
        return RankOutput(stdout, stderr)

    def _obey(self, number: signal.Signals, output: RankOutput) -> None:
        if number == signal.SIGINT and self._asked_at is not None:
            self._end_now(output)
        elif number in _STOP:
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                self._announce_stop(number, output)
        elif number == signal.SIGTSTP:
            self._suspend(output)
        elif number == signal.SIGCONT:
            self._send_to_ranks(signal.SIGCONT, signal.SIGCONT)
        elif number == signal.SIGWINCH:
            send(signal.SIGWINCH, [rank.process for rank in local_ranks()])
        elif number == signal.SIGCHLD:
            self._reap()

    def _announce_stop(self, number: signal.Signals, output: RankOutput) -> None:
        if not self._quiet:
            start = "\n" if os.isatty(2) else ""  # below a progress bar, or after ^C
            more = "; Ctrl-C again ends the run at once" if number == signal.SIGINT else ""
            output.say(f"{start}{number.name}: stopping after the current step{more}\n")

    def _forward_stop(self) -> None:
        """Send SIGUSR1 through mpirun once the ranks catch it: before, it would kill them.

        Ranks of this host that are slow to start are waited for, however long that takes.
        """
        if self._asked_at is None or self._forwarded or self._status is not None:
            return
        ranks = local_ranks()
        late = not ranks and time.monotonic() - self._asked_at > READY_SECONDS
        if late or all_can_stop(ranks):
            self._forwarded = True
            self._send(signal.SIGUSR1)

    def _suspend(self, output: RankOutput) -> None:
        """Stop the ranks and this process, as Ctrl-Z asks; continue them after SIGCONT."""
        self._send_to_ranks(signal.SIGSTOP, signal.SIGTSTP)
        output.show_cursor()
        output.flush()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # here the process is stopped, if its shell can
        signal.signal(signal.SIGTSTP, handler)
        self._send_to_ranks(signal.SIGCONT, signal.SIGCONT)

    def _end_now(self, output: RankOutput) -> None:
        """End every process at once, with the exit code of an interrupted command."""
        output.discard()
        send(signal.SIGKILL, [rank.process for rank in local_ranks()])
        end_all(descendants, grace=KILL_GRACE_SECONDS, between=self._reap)
        self._clean_up(INTERRUPTED)
        output.show_cursor()
        output.flush()
        os._exit(INTERRUPTED)

    def _clean_up(self, code: int) -> None:
        """Remove the files of ended processes; ``code`` is mpirun's."""
        self._scratch.remove()
        if code != DONE:  # after an orderly end MPICH leaves nothing
            remove_unused(self._before)

    def _send_to_ranks(self, number: signal.Signals, by_mpirun: signal.Signals) -> None:
        """Send a signal to the ranks; where some are on other hosts, have mpirun do so too.

        Open MPI forwards ``by_mpirun`` with a delay, and not always in order. Where all ranks
        are on this host, a stop that arrives after the signal to continue would stop them for
        good.
        """
        ranks = local_ranks()
        if any(rank.place.local_size < rank.place.size for rank in ranks):
            self._send(by_mpirun)
        send(number, [rank.process for rank in ranks])

    def _send(self, number: signal.Signals) -> None:
        if self._status is None:  # not reaped: the pid is mpirun's
            os.kill(self._pid, number)

    def _reap(self) -> None:
        """Collect ended children, and those of mpirun that this process has inherited."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._pid:
                    self._status = status
        except ChildProcessError:
            return
