"""Signals within a run in the process of another program."""

from __future__ import annotations

import signal

import pytest

from dbp.train.interrupts import Interrupts


def test_a_handler_of_the_program_stays_but_for_ctrl_c() -> None:
    own = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        mine = signal.getsignal(signal.SIGUSR1)
        with Interrupts():
            assert signal.getsignal(signal.SIGUSR1) is mine
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    finally:
        signal.signal(signal.SIGUSR1, own)


def test_a_second_ctrl_c_and_one_before_the_first_step_interrupt_at_once() -> None:
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.poll()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
