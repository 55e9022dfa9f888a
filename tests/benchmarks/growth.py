"""How time and memory grow: with parameters, layers, batch size, lanes, and samples.

``python -m tests.benchmarks.growth`` from the root of the repository. Each point trains a few
steps in one process with one thread; its figures are the median step, and the largest memory of
the process less that of a process that trains the smallest model. Samples are zeros in sparse
files, which take no space on the disk, except where they grow.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from dbp.bench.timed_result import TimedResult
from dbp.launching import THREAD_VARIABLES, launch_environment
from dbp.quantities import size_text
from dbp.text_table import aligned

ROOT: Final = Path(__file__).resolve().parents[2]
WARMUP: Final = 1
CLASSES: Final = 10


@dataclass(frozen=True)
class Point:
    """One model and mini-batch: ``layers`` hidden layers of ``width`` units."""

    width: int = 128
    layers: int = 1
    batch_size: int = 256
    lanes: int = 4
    samples: int = 4096
    inputs: int = 64

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        inner = (self.layers - 1) * (self.width + 1) * self.width
        return (self.inputs + 1) * self.width + inner + (self.width + 1) * CLASSES


# Axis -> the points along it, by their value.
AXES: Final[Mapping[str, Mapping[int, Point]]] = {
    "parameters": {
        point.parameters: point
        for point in (Point(133), Point(450, 2), Point(1024, 2), Point(2236, 3), Point(7071, 3))
    },
    "layers": {count: Point(64, count) for count in (1, 10, 50, 200)},
    "batch size": {
        size: Point(batch_size=size, samples=2 * size) for size in (32, 256, 2048, 16384)
    },
    "lanes": {lanes: Point(512, 2, lanes=lanes) for lanes in (1, 2, 4, 8, 16, 32, 64)},
    "samples": {10**n: Point(samples=10**n, inputs=8) for n in (4, 5, 6, 7, 8)},
}


@dataclass(frozen=True)
class Measured:
    """Milliseconds of a step, and the largest resident memory of the process in bytes."""

    milliseconds: float
    memory: int


def write_samples(point: Point, folder: Path) -> None:
    """Write sparse files of zeros."""
    for name, shape, kind in (
        ("inputs", (point.samples, point.inputs), np.float32),
        ("targets", (point.samples,), np.uint8),
    ):
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)


def spec(point: Point, folder: Path, steps: int) -> dict[str, Any]:
    """Return the job of a point."""
    hidden = {"kind": "dense", "units": point.width, "activation": "relu"}
    files = {name: f"{folder}/{name}.npy" for name in ("inputs", "targets")}
    return {
        "name": "growth",
        "data": {"train": {"kind": "npy", **files}},
        "model": {
            "layers": [hidden] * point.layers + [{"kind": "dense", "units": CLASSES}],
            "loss": "softmax_cross_entropy",
        },
        "optimizer": {"kind": "momentum", "learning_rate": 1e-3},
        "train": {"batch_size": point.batch_size, "lanes": point.lanes, "steps": steps},
        "publish": {"every_steps": 10**9},
        "checkpoint": {"every_steps": 10**9},
    }


def measure(point: Point, steps: int) -> Measured:
    """Train the point in a process of its own. Raises RuntimeError if that fails."""
    with tempfile.TemporaryDirectory(prefix="dbp-growth-") as temporary:
        folder = Path(temporary)
        write_samples(point, folder)
        file, result = folder / "spec.json", folder / "result.json"
        file.write_text(json.dumps(spec(point, folder, steps + WARMUP + 1)))
        worker = ["dbp.bench.dbp_rank", str(file), str(WARMUP), str(result)]
        process = subprocess.Popen(
            [sys.executable, "-m", *worker],
            cwd=ROOT, env=launch_environment(1) | dict.fromkeys(THREAD_VARIABLES, "1"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{point}: exit code {process.returncode}")
        seconds = TimedResult.read(result).seconds
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(1e3 * statistics.median(seconds), usage.ru_maxrss * unit)


def rows(axis: str, found: Mapping[int, Measured], least: int) -> list[list[str]]:
    """Return a heading, and a row for each point; ``least`` is subtracted from the memory."""
    table = [[axis, "ms a step", "memory", "bytes per unit"]]
    for value, measured in found.items():
        more = max(0, measured.memory - least)
        table.append(
            [
                f"{value:,}", f"{measured.milliseconds:.3f}", size_text(more),
                f"{more / value:.1f}",
            ]
        )  # fmt: skip
    return table


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="growth", description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="timed at each point")
    parser.add_argument("--axis", action="append", choices=list(AXES))
    parser.add_argument("--largest", type=int, help="leave out points with larger values")
    asked = parser.parse_args(given)
    least = measure(Point(1, inputs=1), asked.steps).memory
    print(f"the smallest model takes {size_text(least)}, which is subtracted")
    for axis in asked.axis or AXES:
        found = {
            value: measure(point, asked.steps)
            for value, point in AXES[axis].items()
            if asked.largest is None or value <= asked.largest
        }
        print("\n".join(["", *aligned(rows(axis, found, least))]), flush=True)


if __name__ == "__main__":
    main()
