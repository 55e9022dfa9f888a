"""Run the fuzzer: ``python -m tests.fuzz --minutes 5 --seed 1``; exit status 1 on a finding.

Every input is a function of the seed, the target and a number, which a finding names. An input
fails that raises another error than a user is meant to see, takes more than a second of the
processor, adds more than 64 MiB of memory, or ends the process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from tests.cost import BYTES, MIB, SECONDS, peak, reset_peak
from tests.fuzz.targets import APART, TARGETS, Target

ROUND_SECONDS = 5.0
MOST_FINDINGS = 20


def main() -> int:
    """Fuzz all targets in turn until the time is over; print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = options.target or list(TARGETS)
    inputs: Counter[str] = Counter()
    crashes: Counter[str] = Counter()
    findings = 0
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end and findings < MOST_FINDINGS:
        for name in names:
            seconds = min(ROUND_SECONDS, end - time.monotonic())
            begun = Round(name, options.seed, options.first + inputs[name])
            done, found, signal = begun.run(seconds)
            inputs[name] += done
            crashes[name] += bool(signal)
            findings += found
            if signal and name not in APART:
                findings += 1
                print(f"FINDING {begun.place(done - 1)}: ended by signal {signal}", flush=True)
    for name in names:
        ended = f", {crashes[name]} ended the process" if crashes[name] else ""
        print(f"{name}: {inputs[name]:,} inputs{ended}")
    print(f"{inputs.total():,} inputs, {findings} findings (seed {options.seed})")
    return bool(findings)


class Round:
    """Some inputs of one target, in a process of their own."""

    def __init__(self, name: str, seed: int, first: int) -> None:
        self._name, self._seed, self._first = name, seed, first

    def place(self, number: int) -> str:
        """Return the options that repeat an input of this round."""
        return f"--target {self._name!r} --seed {self._seed} --first {self._first + number}"

    def run(self, seconds: float) -> tuple[int, int, int]:
        """Return the numbers of inputs and findings, and the signal that ended the process."""
        with tempfile.TemporaryDirectory(prefix="dbp-fuzz-") as folder:
            return self._run(seconds, Path(folder))

    def _run(self, seconds: float, folder: Path) -> tuple[int, int, int]:
        reading, writing = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._use(seconds, writing, folder)
            os._exit(0)
        os.close(writing)
        marks = b""
        while part := os.read(reading, 65_536):
            marks += part
        os.close(reading)
        _, status = os.waitpid(child, 0)
        return marks.count(b"i"), marks.count(b"f"), os.WTERMSIG(status)

    def _use(self, seconds: float, marks: int, folder: Path) -> None:
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            os.write(marks, b"i")
            finding = attempt(TARGETS[self._name], self._name, self._seed,
                              self._first + number, folder)  # fmt: skip
            if finding:
                print(f"FINDING {self.place(number)}{finding}", flush=True)
                os.write(marks, b"f")
            number += 1


def attempt(target: Target, name: str, seed: int, number: int, folder: Path) -> str:
    """Return the finding of one input, "" for none."""
    make, use = target
    data = make(np.random.default_rng([seed, *name.encode(), number]))
    before, begin = reset_peak(), time.process_time()
    try:
        use(data, folder)
    except Exception:
        return f"\n{traceback.format_exc()}"
    took, after = time.process_time() - begin, peak()
    if took > SECONDS:
        return f": {took:.1f} s"
    if before is not None and after is not None and after - before > BYTES:
        return f": {(after - before) / MIB:.0f} MiB"
    return ""


if __name__ == "__main__":
    sys.exit(main())
