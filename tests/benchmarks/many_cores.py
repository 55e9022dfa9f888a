"""A training step on 1, 2, 4, ... cores: dbp, PyTorch at its best settings, the bare products.

``python -m tests.benchmarks.many_cores`` from the root of the repository, on an otherwise idle
machine, prints a table in at most five minutes. Rounds are interleaved over core counts,
workloads and columns; no measurement starts after ``--seconds``.

For a machine without a package index that has PyTorch, on one that has an index and the same
Python and platform:

    python -m tests.benchmarks.many_cores --pack FOLDER

Copy the repository with FOLDER, then on that machine:

    sh FOLDER/setup.sh PYTHON && FOLDER/venv/bin/python -m tests.benchmarks.many_cores
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from dbp.bench.figures import Figures, WorkloadFigures
from dbp.bench.machine import facts, facts_text
from dbp.bench.measurement import Bench
from dbp.bench.rounds import Measured, Runner, Settings, measure
from dbp.cores import usable_cores
from dbp.errors import TrainingFailed
from dbp.quantities import count_text
from dbp.text_table import aligned

ROOT: Final = Path(__file__).resolve().parents[2]
COLUMNS: Final = ("exact", "fast", "PyTorch", "DDP", "products")
WORKLOADS: Final = ("wide", "medium")
SECONDS: Final = 280.0  # and the last measurement, within five minutes
SETUP: Final = """#!/bin/sh
# Makes a virtual environment beside this file, from the wheels beside it: sh setup.sh PYTHON
# It sees the packages of PYTHON, which may be that of a virtual environment itself.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)
given=${1:-python3}
"$given" -m venv --clear --without-pip "$folder/venv"
"$given" -m pip --python "$folder/venv/bin/python" install --quiet --no-index \\
  --find-links "$folder/wheels" 'dbp[mpi]'
own=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$given" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$own/given.pth"
"""


def core_counts(largest: int) -> list[int]:
    """Return 1, 2, 4, ... and the largest."""
    powers = itertools.takewhile(lambda n: n < largest, (1 << k for k in itertools.count()))
    return [*powers, largest]


def run(
    benches: Mapping[int, Runner],
    workloads: Sequence[str],
    seconds: float,
    rounds: int,
    *,
    show: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[int, Measured]:
    """Return the samples by the number of cores; what ``seconds`` cut short is left out."""
    found = {cores: Measured() for cores in benches}
    end = clock() + seconds
    for cores, bench in list(benches.items()) * rounds:
        left = end - clock()
        if left <= 0:
            return found
        part = Measured()
        try:
            measure(
                bench, Settings(workloads, COLUMNS, 1, seconds=left),
                show=lambda line, cores=cores: show(f"{count_text(cores, 'core')}, {line}"),  # type: ignore[misc]
                clock=clock, measured=part,
            )  # fmt: skip
        except TrainingFailed:
            if clock() < end:
                raise
        _merge(found[cores], part)
    return found


def _merge(found: Measured, part: Measured) -> None:
    """Add a round; a cell of which there are samples is not missing."""
    for cell, samples in part.samples.items():
        found.samples.setdefault(cell, []).extend(samples)
    for cell, reason in part.missing.items():
        if not any(found.samples[cell]):
            found.missing[cell] = reason


def rows(figures: Mapping[int, Figures], workloads: Sequence[str]) -> list[list[str]]:
    """Return a heading, and a row for each number of cores; milliseconds by workload."""
    table = [["cores", *COLUMNS, "best peer / exact"]]
    for cores, each in figures.items():
        measured = [each.workloads[name] for name in workloads if name in each.workloads]
        cells = [" / ".join(_time(work, column) for work in measured) for column in COLUMNS]
        ratios = (work.ratios.get("best peer / exact") for work in measured)
        shown = ["-" if ratio is None else f"{ratio.value.median:.2f}" for ratio in ratios]
        table.append([str(cores), *cells, " / ".join(shown)])
    return table


def _time(work: WorkloadFigures, column: str) -> str:
    found = work.columns.get(column)
    if found is None or found.time is None:
        return "-"
    median = found.time.median
    return f"{median:.1f}" if median < 100 else f"{median:.0f}"


def pack(folder: Path) -> None:
    """Write the wheels of dbp and of all it needs, and the script that installs them."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "wheel", "--wheel-dir", str(folder / "wheels")]
    subprocess.run([*command, f"{ROOT}[mpi]"], check=True, stdin=subprocess.DEVNULL)
    (folder / "setup.sh").write_text(SETUP)


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="many_cores", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--cores", type=int, nargs="+", default=core_counts(usable_cores()))
    parser.add_argument("--workload", action="append", choices=WORKLOADS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    parser.add_argument("--pack", type=Path, metavar="FOLDER")
    asked = parser.parse_args(None if given is None else list(given))
    if asked.pack is not None:
        pack(asked.pack)
        return
    machine, workloads = facts(), asked.workload or WORKLOADS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbp-bench-")))
        benches = {n: stack.enter_context(Bench.making(folder, n)) for n in asked.cores}
        found = run(
            benches, workloads, asked.seconds, asked.rounds,
            show=lambda line: print(line, file=sys.stderr),
        )  # fmt: skip
    figures = {cores: Figures.of(each, machine, cores) for cores, each in found.items()}
    if asked.output == "json":
        print(json.dumps({cores: each.to_json() for cores, each in figures.items()}, indent=1))
        return
    print(f"{facts_text(machine)}; milliseconds a step: {' / '.join(workloads)}")
    print("\n".join(aligned(rows(figures, workloads))))
    for reason in {reason for each in found.values() for reason in each.missing.values()}:
        print(f"- {reason}")


if __name__ == "__main__":
    main()
