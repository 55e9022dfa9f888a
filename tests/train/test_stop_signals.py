"""Signals reach whole processes, so these tests use processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.deadline import DEADLINE

SCRIPT = """
import sys, time
from dbp.train.report.sink import Command
from dbp.train.stop_signals import StopSignals

signals = StopSignals()
if "polls" in sys.argv:
    assert signals.poll() == Command.NONE
print("ready", flush=True)
while "stops" not in sys.argv or not signals.poll():
    time.sleep(0.01)
    if signals.received:
        print("noted", flush=True)
print("stopped by", signals.received.name, flush=True)
"""

IGNORING_HUP = ("/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh")  # as nohup does


def start(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]
)
def test_a_signal_is_a_request_to_stop(number: signal.Signals) -> None:
    process = start("polls", "stops")

    process.send_signal(number)
    output, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-1] == f"stopped by {number.name}"


def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    process = start("polls")
    assert process.stdout is not None

    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "noted\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)

    assert process.returncode == 130


def test_ctrl_c_before_the_first_step_ends_the_process() -> None:
    process = start()

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, errors) == (130, "")


def test_sighup_stays_ignored_under_nohup() -> None:
    script = """
import os, signal
from dbp.train.stop_signals import StopSignals

signals = StopSignals()
os.kill(os.getpid(), signal.SIGHUP)
print(signals.received)
"""
    command = [*IGNORING_HUP, sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "None\n"


def test_signals_after_the_end_of_the_run_change_no_exit_code() -> None:
    script = """
import os, sys
from dbp.train.stop_signals import STOP_SIGNALS, StopSignals

StopSignals().ignore()
# At its exit Python restores the default action of every signal that has a handler.
pid, late = os.getpid(), os.fork()
if late == 0:
    while os.getppid() == pid:
        for number in STOP_SIGNALS:
            os.kill(pid, number)
    os._exit(0)
sys.exit(75)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)

    assert done.returncode == 75


@pytest.mark.parametrize("early_warning", [False, True])
def test_sigcont_asks_for_one_checkpoint_under_a_launcher_that_kills(
    early_warning: bool,
) -> None:
    script = f"""
import os, signal
from dbp.train.stop_signals import StopSignals

signals = StopSignals(early_warning={early_warning})
os.kill(os.getpid(), signal.SIGCONT)
print(repr(signals.poll()), repr(signals.poll()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    first = "<Command.CHECKPOINT: 4>" if early_warning else "<Command.NONE: 0>"
    assert done.stdout == f"{first} <Command.NONE: 0>\n"
