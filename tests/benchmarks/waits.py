"""What waiting ranks cost: a small training on 1 and 2 ranks, alone and beside busy loops.

``python -m tests.benchmarks.waits`` from the root of the repository, on an idle machine. Every
round runs each variant once, one after the other, on two cores: first alone, then beside four
busy loops. Spinning is what Open MPI does by default (MPICH yields). A figure is the median
over the rounds of the seconds that the training took, without the start of its processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbp.launching import launch_environment
from tests.busy import CORES, LOOPS, loop

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT: Final = 600.0
HEADING: Final = f"{'':20} {'alone':>9} {f'{LOOPS} loops':>9}  beside loops / alone"

SPEC: Final = """
name = "waits"
seed = 1
[data]
train = {{ kind = "digits" }}
[model]
layers = [
  {{ kind = "dense", units = 128, activation = "relu" }},
  {{ kind = "dense", units = 10 }},
]
loss = "softmax_cross_entropy"
[optimizer]
kind = "adam"
learning_rate = 1e-3
[train]
batch_size = 32
steps = {steps}
"""


@dataclass(frozen=True)
class Variant:
    """Ranks, and the variables that their environment gets in addition."""

    ranks: int
    variables: Mapping[str, str]


VARIANTS: Final = {
    "1 rank": Variant(1, {}),
    "2 ranks": Variant(2, {}),
    "2 ranks, spinning": Variant(2, {"OMPI_MCA_mpi_yield_when_idle": "0"}),
}


def seconds(variant: Variant, spec: Path) -> float:
    """Return the time of one training; raises RuntimeError where it fails."""
    command = [
        sys.executable, "-m", "dbp", "train", str(spec), "-n", str(variant.ranks),
        "--run", str(spec.with_name("run")), "--overwrite", "--quiet", "--output", "json",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=launch_environment(variant.ranks) | dict(variant.variables),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
    return float(json.loads(done.stdout)["seconds"])


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Run so many busy loops meanwhile."""
    loops = [loop(os.getpid()) for _ in range(count)]
    try:
        yield
    finally:
        for pid in loops:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def measure(rounds: int, steps: int) -> dict[str, dict[int, float]]:
    """Return for each variant its median seconds, by the number of busy loops beside it."""
    found: dict[str, dict[int, list[float]]] = {name: {0: [], LOOPS: []} for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "waits.toml"
        spec.write_text(SPEC.format(steps=steps))
        for _ in range(rounds):
            for loops in (0, LOOPS):
                with busy_loops(loops):
                    for name, variant in VARIANTS.items():
                        found[name][loops].append(seconds(variant, spec))
    return {
        name: {loops: statistics.median(times) for loops, times in by_loops.items()}
        for name, by_loops in found.items()
    }


def report(medians: Mapping[str, Mapping[int, float]]) -> None:
    """Print the seconds of every variant, and the ratios between variants."""
    print(HEADING)
    for name, by_loops in medians.items():
        alone, beside = by_loops[0], by_loops[LOOPS]
        print(f"{name:20} {alone:7.2f} s {beside:7.2f} s  {beside / alone:6.1f}")
    one, two, spinning = (medians[name] for name in VARIANTS)
    for label, over, under in (
        ("2 ranks / 1 rank", two, one),
        ("yielding / spinning", two, spinning),
    ):
        ratios = (over[loops] / under[loops] for loops in (0, LOOPS))
        print(f"{label:20}", *(f"{ratio:9.2f}" for ratio in ratios))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    asked = parser.parse_args()
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    report(measure(asked.rounds, asked.steps))


if __name__ == "__main__":
    main()
