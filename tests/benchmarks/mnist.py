"""How long MNIST takes to an accuracy on its test set: dbp beside scikit-learn's MLPClassifier.

``python -m tests.benchmarks.mnist FOLDER`` from the root of the repository, on an otherwise
idle machine; FOLDER has the four ``.gz`` files of the original distribution. The network is
784-128-10; both train it with Adam at the same rate and batch size, on the same cores. A time
is from the start of the command to the end of the first epoch whose test accuracy is at least
the target. Every command runs once for each seed, in turns; scikit-learn also with one thread,
and the ratio is that to the faster one. ``--write`` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dbp.bench.machine import facts, facts_text
from dbp.cores import core_count
from dbp.launching import THREAD_VARIABLES, launch_environment
from dbp.text_table import aligned
from tests.benchmarks.results import replace_section

ROOT: Final = Path(__file__).resolve().parents[2]
COMMAND: Final = "python -m tests.benchmarks.mnist"
TIMEOUT: Final = 1800.0
DBP: Final = "dbp"
SKLEARN: Final = ("scikit-learn", "scikit-learn, 1 thread")


@dataclass(frozen=True)
class Goal:
    """The settings that both contenders have."""

    folder: str
    target: float = 0.975
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    hidden: int = 128


@dataclass(frozen=True)
class Reached:
    """Seconds to the end of the first epoch at the target; ``accuracy`` is that epoch's."""

    seconds: float
    epochs: int
    accuracy: float


def spec(goal: Goal, seed: int) -> dict[str, Any]:
    """Return the job of dbp."""

    def idx(part: str) -> dict[str, str]:
        names = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
        inputs, targets = (str(Path(goal.folder).absolute() / name) for name in names)
        return {"kind": "idx", "inputs": inputs, "targets": targets}

    return {
        "name": "mnist",
        "seed": seed,
        "data": {"train": idx("train"), "validation": idx("t10k"), "scale": "unit"},
        "model": {
            "layers": [
                {"kind": "flatten"},
                {"kind": "dense", "units": goal.hidden, "activation": "relu"},
                {"kind": "dense", "units": 10},
            ],
            "loss": "softmax_cross_entropy",
        },
        "optimizer": {"kind": "adam", "learning_rate": goal.learning_rate},
        "train": {
            "batch_size": goal.batch_size,
            "epochs": goal.epochs,
            "stop": {"metric": "validation_accuracy", "target": goal.target},
        },
    }


def run_dbp(goal: Goal, seed: int, cores: int) -> Reached:
    """Train with ``dbp train``, one process a core."""
    with tempfile.TemporaryDirectory(prefix="dbp-mnist-") as temporary:
        file, run = Path(temporary) / "mnist.json", Path(temporary) / "run"
        file.write_text(json.dumps(spec(goal, seed)))
        command = ["dbp", "train", str(file), "-n", str(cores), "--run", str(run), "--quiet"]
        began = time.time()
        _output([sys.executable, "-m", *command], 1)
        lines = (run / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    return _reached(goal, last["time"] - began, last["epoch"], last["validation_accuracy"])


def run_sklearn(goal: Goal, seed: int, cores: int) -> Reached:
    """Train with scikit-learn, one process with a thread a core."""
    arguments = json.dumps({**asdict(goal), "seed": seed})
    began = time.time()
    command = [sys.executable, "-m", "tests.benchmarks.mnist_sklearn", arguments]
    found = json.loads(_output(command, cores))
    return _reached(goal, found["time"] - began, found["epochs"], found["accuracy"])


def _reached(goal: Goal, seconds: float, epochs: int, accuracy: float) -> Reached:
    if accuracy < goal.target:
        raise RuntimeError(f"accuracy {accuracy} after {epochs} epochs, wanted {goal.target}")
    return Reached(seconds, epochs, accuracy)


def _output(command: Sequence[str], threads: int) -> str:
    """Return the output of a process with so many threads; raises RuntimeError if it fails."""
    environment = launch_environment(1) | dict.fromkeys(THREAD_VARIABLES, str(threads))
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=TIMEOUT,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
    return done.stdout


def measure(goal: Goal, seeds: int, cores: int) -> dict[str, list[Reached]]:
    """Return the result of each contender for each seed."""
    runs = [(DBP, run_dbp, cores), (SKLEARN[0], run_sklearn, cores)]
    if cores > 1:
        runs.append((SKLEARN[1], run_sklearn, 1))
    found: dict[str, list[Reached]] = {name: [] for name, *_ in runs}
    for seed in range(1, seeds + 1):
        for name, run, used in runs if seed % 2 else runs[::-1]:
            print(f"seed {seed} of {seeds}: {name}", file=sys.stderr)
            found[name].append(run(goal, seed, used))
    return found


def rows(found: Mapping[str, Sequence[Reached]]) -> list[list[str]]:
    """Return a heading, a row for each contender, and the ratio."""
    table = [["", "s, median", "least", "most", "epochs, median", "accuracy, median"]]
    for name, results in found.items():
        seconds = [result.seconds for result in results]
        times = statistics.median(seconds), min(seconds), max(seconds)
        epochs = statistics.median(result.epochs for result in results)
        accuracy = statistics.median(result.accuracy for result in results)
        table.append([name, *(f"{t:.2f}" for t in times), f"{epochs:g}", f"{accuracy:.4f}"])
    theirs = min(
        (of for name, of in found.items() if name in SKLEARN),
        key=lambda of: statistics.median(result.seconds for result in of),
    )
    pairs = zip(theirs, found[DBP], strict=True)
    ratios = [other.seconds / own.seconds for other, own in pairs]
    shown = statistics.median(ratios), min(ratios), max(ratios)
    table.append(["scikit-learn / dbp", *(f"{ratio:.2f}" for ratio in shown), "", ""])
    return table


def section(goal: Goal, table: Sequence[Sequence[str]], seeds: int, cores: int) -> str:
    """Return the part of RESULTS.md."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    head, *lines = [f"| {' | '.join(row)} |" for row in table]
    return (
        f"`{COMMAND} FOLDER` on {day}, {cores} cores: {facts_text(facts())}.\n"
        f"784-{goal.hidden}-10, Adam at {goal.learning_rate}, batch {goal.batch_size}, to "
        f"{goal.target:.1%} test accuracy; {seeds} seeds, each contender in turn.\n\n"
        + "\n".join([head, "|---" * len(table[0]) + "|", *lines])
    )


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="mnist", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--target", type=float, default=Goal.target)
    parser.add_argument("--epochs", type=int, default=Goal.epochs, help="at most")
    parser.add_argument("--batch-size", type=int, default=Goal.batch_size)
    parser.add_argument("--learning-rate", type=float, default=Goal.learning_rate)
    parser.add_argument("--cores", type=int, default=core_count())
    parser.add_argument("--output", choices=["text", "json"], default="text")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    asked = parser.parse_args(given)
    goal = Goal(asked.folder, asked.target, asked.epochs, asked.batch_size, asked.learning_rate)
    found = measure(goal, asked.seeds, asked.cores)
    if asked.output == "json":
        content = {name: [asdict(result) for result in of] for name, of in found.items()}
        print(json.dumps(content))
    else:
        print("\n".join(aligned(rows(found))))
    if asked.write:
        replace_section(COMMAND, section(goal, rows(found), asked.seeds, asked.cores))


if __name__ == "__main__":
    main()
