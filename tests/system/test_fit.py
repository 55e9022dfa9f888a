"""`dbp.fit` in real processes: the bits of `dbp train`, mpirun, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dbp
from dbp.launching import find_mpirun, launch_environment
from tests.deadline import DEADLINE, until
from tests.train.fit_setups import numbers_of, samples, spec, spec_of_files

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, os, sys
import dbp
from tests.train.fit_setups import samples, spec

rank = os.environ.get("OMPI_COMM_WORLD_RANK", "0")
assert "mpi4py" not in sys.modules
x, y = samples()
other = x + (rank == "1")
for arrays in ((x, y[:-1]), (other, y)):  # refused on every rank; the script goes on
    try:
        dbp.fit(spec(), *arrays, run="refused")
    except dbp.errors.InvalidInput as error:
        print(rank, "refused:", error)
for number in (1, 2):
    model = dbp.fit(spec(), x, y, validation=samples(60, 2), run="run", overwrite=True)
model.save(f"rank-{rank}.safetensors")
print(json.dumps([rank, "mpi4py.MPI" in sys.modules, len(model.history)]))
"""

ENDLESS = """
import signal, sys
import dbp
from tests.train.fit_setups import samples, spec

try:
    dbp.fit(spec(epochs=10**9), *samples(), run="run", progress=True)
except KeyboardInterrupt as stopped:
    print(type(stopped).__name__, stopped.model.metadata["dbp.step"])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    raise
"""


def environment(workers: int = 1) -> dict[str, str]:
    return launch_environment(workers) | {"PYTHONPATH": str(ROOT)}


def run(command: list[str], folder: Path, workers: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(workers), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip


def test_fit_has_the_bits_and_figures_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(spec_of_files(tmp_path)))
    command = [sys.executable, "-m", "dbp", "train", "job.json", "--run", "run", "-q"]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr

    model = dbp.fit(spec(), *samples(), validation=samples(60, 2))

    model.save(tmp_path / "own.safetensors")
    own = numbers_of(tmp_path / "own.safetensors")
    assert own == numbers_of(tmp_path / "run" / "parameters.safetensors")
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    epochs = [line for line in lines if "status" not in line]
    for line, epoch in zip(epochs, model.history, strict=True):
        assert epoch.items() <= line.items()


def test_two_ranks_have_the_bits_of_one_and_raise_the_same_errors(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    mpirun = [str(find_mpirun()), "-n", "2", "--oversubscribe", "--bind-to", "none"]
    done = run([*mpirun, sys.executable, "script.py"], tmp_path, 2)
    assert done.returncode == 0, done.stderr

    model = dbp.fit(spec(), *samples(), validation=samples(60, 2), run=tmp_path / "solo")

    for name in ("rank-0.safetensors", "rank-1.safetensors", "run/parameters.safetensors"):
        wanted = tmp_path / "solo" / "parameters.safetensors"
        assert (tmp_path / name).read_bytes() == wanted.read_bytes(), name
    lines = done.stdout.splitlines()
    assert {line for line in lines if line.startswith("[")} == {
        json.dumps([rank, True, len(model.history)]) for rank in ("0", "1")
    }
    for rank in ("0", "1"):
        refused = [line for line in lines if line.startswith(f"{rank} refused:")]
        assert "targets holds 199 targets" in refused[0]
        assert "rank 1 has another spec than rank 0" in refused[1]
    assert not (tmp_path / "refused").exists()


def test_a_script_without_mpirun_does_not_load_mpi(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)

    done = run([sys.executable, "script.py"], tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '["0", false, 3]'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_script_after_the_step_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "script.py").write_text(ENDLESS)
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        metrics = tmp_path / "run" / "metrics.jsonl"
        until(lambda: metrics.exists() and metrics.stat().st_size > 0)
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()

    name, step = out.split()
    assert name == "KeyboardInterrupt"
    assert f"stopped after step {int(step):,}: " in err
    assert process.returncode == -signal.SIGINT  # as Python ends on KeyboardInterrupt
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["step"]) == ("stopped", int(step))
    checkpoints = [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")]
    assert any(
        int(name.removeprefix("step-").split(".")[0]) == int(step) for name in checkpoints
    )
