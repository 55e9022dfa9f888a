"""How long a training step takes: dbp, PyTorch, and the bare matrix products, side by side.

``python -m tests.benchmarks.training`` from the root of the repository, or ``make bench``.
Every round runs each variant once, in processes of their own, one variant after the other;
rounds are interleaved, so that a machine that slows down slows all of them. A round's figure is
the median over its steps, the first ones left out; a table's is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from dbp.cores import usable_cores
from dbp.launching import launch_environment, worker_command
from tests.benchmarks.workloads import (
    PRODUCTS,
    RANKS,
    REFERENCE,
    VARIANTS,
    WORKLOADS,
    Variant,
    Workload,
)

ROOT: Final = Path(__file__).resolve().parents[2]
BATCHES: Final = 16  # of an epoch
TIMEOUT: Final = 1800.0
LINE: Final = "{:<9} {:<16} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9}"
HEADING: Final = (
    "workload", "variant", "ms/step", "least", "most", "spread", "/ DDP", "products",
)  # fmt: skip

Rounds = dict[str, list[float]]  # of a variant its median step, in seconds, of each round


def write_data(workload: Workload, folder: Path) -> None:
    """Random inputs and classes as npy files."""
    rng = np.random.default_rng(0)
    samples = BATCHES * workload.batch_size
    np.save(folder / "inputs.npy", rng.random((samples, workload.widths[0]), np.float32))
    np.save(folder / "targets.npy", rng.integers(0, workload.widths[-1], samples))


def commands(
    variant: Variant, name: str, folder: Path, steps: int, warmup: int, result: Path
) -> list[list[str]]:
    """The processes that run a variant together; their rank 0 writes ``result``."""
    python = [sys.executable, "-m"]
    counts = [str(steps), str(warmup), str(result)]
    if variant.program == "dbp":
        spec = folder / "spec.json"
        document = WORKLOADS[name].spec(str(folder), steps + warmup + 1, variant.train)
        spec.write_text(json.dumps(document))
        worker = [*python, "tests.benchmarks.dbp_worker", str(spec), str(warmup), str(result)]
        return [worker_command(RANKS, worker)]
    if variant.program == "products":
        worker = [*python, "tests.benchmarks.products_worker", name, *counts]
        return [[*worker, str(rank)] for rank in range(RANKS)]
    worker = [*python, "tests.benchmarks.torch_worker", name, str(folder), *counts]
    ranks = RANKS if variant.program == "torch_ddp" else 1
    return [[*worker, str(rank), str(ranks)] for rank in range(ranks)]


def environment(threads: int) -> dict[str, str]:
    """That of a launched rank, with so many threads for every library."""
    variables = launch_environment(RANKS)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        variables[name] = str(threads)
    return variables


def measure(name: str, variant: Variant, folder: Path, steps: int, warmup: int) -> float:
    """The median step of one run, in seconds; raises RuntimeError where it fails."""
    result = folder / "steps.json"
    Path(f"{result}.meeting").unlink(missing_ok=True)
    variables = environment(RANKS if variant.program == "torch" else 1)
    started = [
        subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for command in commands(variant, name, folder, steps, warmup, result)
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + TIMEOUT
        while any(process.poll() is None for process in started):
            _check(started, f"{variant.program}, {name}", deadline)
            time.sleep(0.05)
        _check(started, f"{variant.program}, {name}", deadline)
    finally:
        for process in started:
            process.kill()
            process.communicate()
    times = json.loads(result.read_text())
    result.unlink()
    assert len(times) == steps, (len(times), steps)
    return float(statistics.median(times))


def _check(started: Sequence[subprocess.Popen[str]], what: str, deadline: float) -> None:
    """Raise RuntimeError where a process has failed, or all of them take too long."""
    for process in started:
        if process.poll():
            errors = process.stderr.read() if process.stderr else ""
            raise RuntimeError(f"{what}: exit code {process.returncode}: {errors}")
    if time.monotonic() > deadline:
        raise RuntimeError(f"{what}: not done after {TIMEOUT:.0f} s")


def run(names: Sequence[str], variants: Sequence[str], arguments: Any) -> dict[str, Rounds]:
    """All rounds of all workloads; each round begins with another variant."""
    found: dict[str, Rounds] = {name: {variant: [] for variant in variants} for name in names}
    with tempfile.TemporaryDirectory(prefix="dbp-bench-") as temporary:
        for name in names:
            folder = Path(temporary) / name
            folder.mkdir()
            write_data(WORKLOADS[name], folder)
        for number in range(arguments.rounds):
            turn = number % len(variants)
            for name in names:
                for variant in [*variants[turn:], *variants[:turn]]:
                    print(
                        f"round {number + 1} of {arguments.rounds}: {name}, {variant}",
                        file=sys.stderr,
                    )
                    seconds = measure(
                        name, VARIANTS[variant], Path(temporary) / name, arguments.steps,
                        arguments.warmup,
                    )  # fmt: skip
                    found[name][variant].append(seconds)
    return found


def rows(found: Mapping[str, Rounds]) -> list[dict[str, Any]]:
    """One row for each workload and variant; times in milliseconds a step."""
    table = []
    for name, rounds in found.items():
        medians = {variant: 1e3 * statistics.median(of) for variant, of in rounds.items()}
        for variant, seconds in rounds.items():
            median = medians[variant]
            table.append(
                {
                    "workload": name,
                    "variant": variant,
                    "milliseconds": median,
                    "least": 1e3 * min(seconds),
                    "most": 1e3 * max(seconds),
                    "spread": 1e3 * (max(seconds) - min(seconds)) / median,
                    "ratio": median / medians[REFERENCE] if REFERENCE in medians else None,
                    "products": medians[PRODUCTS] / median if PRODUCTS in medians else None,
                    "rounds": [1e3 * value for value in seconds],
                }
            )
    return table


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "system": platform.platform(),
        "cores": usable_cores(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "torch": version("torch"),
        "ranks": RANKS,
    }


def text(table: Sequence[Mapping[str, Any]], arguments: Any) -> str:
    """The table for people."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = [
        facts,
        f"medians over {arguments.rounds} rounds of the median of {arguments.steps} steps",
        LINE.format(*HEADING),
    ]
    for row in table:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        share = "-" if row["products"] is None else f"{row['products']:.0%}"
        times = (f"{row[name]:.3f}" for name in ("milliseconds", "least", "most"))
        spread = f"{row['spread']:.0%}"
        lines.append(LINE.format(row["workload"], row["variant"], *times, spread, ratio, share))
    return "\n".join(lines)


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="steps timed in a round")
    parser.add_argument("--warmup", type=int, default=10, help="steps before them")
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS))
    parser.add_argument("--variant", action="append", choices=list(VARIANTS))
    parser.add_argument("--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args(given)
    if min(arguments.rounds, arguments.steps) < 1 or arguments.warmup < 0:
        parser.error("--rounds and --steps must be at least 1, --warmup at least 0")
    return arguments


def main(given: Sequence[str] | None = None) -> None:
    arguments = parse(given)
    names = arguments.workload or list(WORKLOADS)
    table = rows(run(names, arguments.variant or list(VARIANTS), arguments))
    if arguments.output == "json":
        print(json.dumps({"machine": machine(), "table": table}, indent=2))
    else:
        print(text(table, arguments))


if __name__ == "__main__":
    main()
