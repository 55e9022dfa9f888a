"""Signals reach whole processes, so these tests use processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import sys, time
from dbp.train.sink import Command
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


def start(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_a_request_to_stop(number: signal.Signals) -> None:
    process = start("polls", "stops")

    process.send_signal(number)
    output, errors = process.communicate(timeout=10)

    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-1] == f"stopped by {number.name}"


def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    process = start("polls")
    assert process.stdout is not None

    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "noted\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)

    assert process.returncode == 130


def test_ctrl_c_before_the_first_step_ends_the_process() -> None:
    process = start()

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)

    assert (process.returncode, errors) == (130, "")
