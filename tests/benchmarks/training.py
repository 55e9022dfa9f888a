"""How long a training step takes: dbp, the bare matrix products and other frameworks.

``python -m tests.benchmarks.training`` from the root of the repository measures and prints.
``--write`` (``make bench``) puts the tables into RESULTS.md, between its markers, and the
figures into training.json; ``--check`` (``make bench-check``) compares with that file and fails
if a ratio fell by more than its spread. Measure on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dbp.bench.column import ALONE, COLUMNS, MAIN, ONE_CORE
from dbp.bench.figures import Figures
from dbp.bench.machine import facts, facts_text
from dbp.bench.measurement import Bench
from dbp.bench.rounds import Settings, measure
from dbp.bench.table import markdown, text
from dbp.bench.workload import TITLES, WORKLOADS
from dbp.cores import core_count
from dbp.quantities import count_text
from tests.benchmarks.results import RESULTS, replace_section

FIGURES: Final = Path(__file__).with_name("training.json")


def run(arguments: argparse.Namespace) -> Figures:
    """Measure; a line on stderr names each measurement."""
    settings = Settings(
        arguments.workload or list(WORKLOADS),
        arguments.column or [*MAIN, *ONE_CORE, ALONE],
        arguments.rounds,
        steps=arguments.steps,
        warmup=arguments.warmup,
    )
    machine = facts()  # before it is busy
    with (
        tempfile.TemporaryDirectory(prefix="dbp-bench-") as folder,
        Bench.making(Path(folder), arguments.cores) as bench,
    ):
        found = measure(bench, settings, show=lambda line: print(line, file=sys.stderr))
    return Figures.of(found, machine, arguments.cores)


def section(figures: Figures, rounds: int) -> str:
    """Return the part of RESULTS.md between the markers."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    titles = "; ".join(f"`{name}`: {TITLES[name]}" for name in figures.workloads)
    return (
        f"`make bench` on {day}, on {count_text(figures.cores, 'core')}: "
        f"{facts_text(figures.machine)}.\n"
        f"Medians of {count_text(rounds, 'interleaved round')}, with the least and the largest "
        f"in brackets.\n{titles}.\n\n{markdown(figures)}\n"
    )


def write(figures: Figures, rounds: int, results: Path, file: Path) -> None:
    """Put the tables between the markers of ``results``, and the figures into ``file``."""
    replace_section("make bench", section(figures, rounds), results)
    file.write_text(json.dumps(figures.to_json(), indent=1) + "\n")


def check(figures: Figures, file: Path) -> list[str]:
    """Return a sentence for each ratio that fell; print where the machines differ."""
    before = Figures.read(file)
    for name in ("processor", "cores"):
        if before.machine[name] != figures.machine[name]:
            print(
                f"note: {file.name} was measured on {name} {before.machine[name]}, this is "
                f"{figures.machine[name]}: ratios may differ for that reason",
                file=sys.stderr,
            )
    return figures.fallen(before)


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="steps timed in a round")
    parser.add_argument("--warmup", type=int, help="steps before them")
    parser.add_argument("--cores", type=int, default=core_count())
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS))
    parser.add_argument("--column", action="append", choices=list(COLUMNS))
    parser.add_argument("--output", choices=["text", "json"], default="text")
    to = parser.add_mutually_exclusive_group()
    to.add_argument("--write", action="store_true", help="into RESULTS.md and training.json")
    to.add_argument("--check", action="store_true", help="against training.json")
    arguments = parser.parse_args(given)
    if arguments.write and (arguments.workload or arguments.column or arguments.steps):
        parser.error("--write needs the whole table: remove --workload, --column, --steps")
    steps = 1 if arguments.steps is None else arguments.steps
    if min(arguments.rounds, steps, arguments.cores) < 1 or (arguments.warmup or 0) < 0:
        parser.error("--rounds, --steps, --cores must be at least 1, --warmup at least 0")
    return arguments


def main(given: Sequence[str] | None = None) -> None:
    arguments = parse(given)
    figures = run(arguments)
    as_json = arguments.output == "json"
    print(json.dumps(figures.to_json(), indent=2) if as_json else text(figures))
    problems = figures.odd_losses()
    if arguments.check:
        problems += check(figures, FIGURES)
    elif arguments.write and not problems:
        write(figures, arguments.rounds, RESULTS, FIGURES)
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
