"""`dbp train` as users start it: real processes, real mpirun, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from tests.closeness import assert_close
from tests.deadline import DEADLINE

BIN = Path(sys.executable).parent
DBP = str(BIN / "dbp")
MPIRUN = [str(BIN / "mpirun"), "--bind-to", "none", "--oversubscribe"]

SPEC = """
name = "small"
[data]
train = {{ kind = "digits" }}
validation = {{ fraction = 0.1 }}
test = {{ kind = "digits", part = "test" }}
scale = "unit"
[model]
layers = [
  {{ kind = "dense", units = 16, activation = "relu" }},
  {{ kind = "dense", units = 10 }},
]
loss = "softmax_cross_entropy"
[optimizer]
kind = "adam"
learning_rate = 1e-3
[train]
batch_size = 50
steps = {steps}
{train}
"""

# dbp with something added that goes wrong on one rank, in the middle of its training.
POISONED = """
import os, sys
from dbp.train.step import Step

run = Step.run
def poisoned(self, step, *rest):
    if step == 20 and os.environ["OMPI_COMM_WORLD_RANK"] == "1":
        raise RuntimeError("a fault of this rank")
    return run(self, step, *rest)
Step.run = poisoned

from dbp.cli.main import main
main(sys.argv[1:])
"""


def environment(**extra: str) -> dict[str, str]:
    return {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        **extra,
    }


def start(*command: str, **extra: str) -> subprocess.Popen[str]:
    """``extra``: of the environment."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(**extra),
    )  # fmt: skip


def run(*command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """``extra``: of the environment."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
        env=environment(**extra),
    )  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SPEC.format(steps=40, train=""))
    return path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    path = tmp_path / "endless.toml"
    path.write_text(SPEC.format(steps=10**9, train=""))
    return path


def vector(folder: Path) -> np.ndarray:
    tensors = load_file(folder / "parameters.safetensors")
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])


def result(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "result.json").read_text())
    return content


def wait_for_training(folder: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    figures = folder / "metrics.jsonl"
    while not (figures.exists() and figures.stat().st_size):
        assert time.monotonic() < deadline, "training has not begun"
        time.sleep(0.02)


def test_two_ranks_under_mpirun_give_what_one_process_gives(tmp_path: Path, spec: Path) -> None:
    alone = run(DBP, "train", str(spec), "--run", str(tmp_path / "one"))
    both = run(*MPIRUN, "-n", "2", DBP, "train", str(spec), "--run", str(tmp_path / "two"))

    assert alone.returncode == 0, alone.stderr
    assert both.returncode == 0, both.stderr
    assert_close(vector(tmp_path / "two"), vector(tmp_path / "one"), 1e-5)
    assert "on 2 workers" in both.stdout
    assert "rank 0 has 2 lanes: " in both.stdout
    assert "test_accuracy" in both.stdout
    assert f"dbp predict {tmp_path / 'two'} INPUTS" in both.stdout
    assert result(tmp_path / "two")["status"] == "succeeded"


def test_exact_numerics_give_the_same_file_on_one_two_and_three_ranks(tmp_path: Path) -> None:
    spec = tmp_path / "exact.toml"
    spec.write_text(SPEC.format(steps=30, train='numerics = "exact"\nclip_norm = 1.0'))

    for ranks in ("1", "2", "3"):
        done = run(DBP, "train", str(spec), "-n", ranks, "--run", str(tmp_path / ranks))
        assert done.returncode == 0, done.stderr

    files = {(tmp_path / ranks / "parameters.safetensors").read_bytes() for ranks in "123"}
    assert len(files) == 1


def test_a_bad_spec_under_mpirun_is_reported_once_with_exit_code_2(
    tmp_path: Path, spec: Path
) -> None:
    spec.write_text(spec.read_text().replace('kind = "adam"', 'kind = "adm"'))

    done = run(*MPIRUN, "-n", "3", DBP, "train", str(spec), "--run", str(tmp_path / "run"))

    assert done.returncode == 2
    assert done.stderr.count("did you mean 'adam'") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_more_workers_than_lanes_are_refused_before_mpirun_starts(
    tmp_path: Path, spec: Path
) -> None:
    (tmp_path / "mpirun").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "mpirun").chmod(0o755)
    code = (
        "import sys; from pathlib import Path; import dbp.launching as launching\n"
        f"launching.find_mpirun = lambda: Path({str(tmp_path / 'mpirun')!r})\n"
        "from dbp.cli.main import main; main(sys.argv[1:])"
    )

    done = run(
        sys.executable, "-c", code, "train", str(spec), "-n", "100",
        "--run", str(tmp_path / "run"),
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.count("exact numerics share 4 lanes among the workers, got 100") == 1
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "run").exists()


def test_labels_the_model_has_no_output_for_are_reported_once_with_exit_code_2(
    tmp_path: Path, spec: Path
) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(200, 8)), y=np.arange(200) % 11)
    text = spec.read_text().replace('test = { kind = "digits", part = "test" }', "")
    spec.write_text(
        text.replace(
            'train = { kind = "digits" }', 'train = { kind = "npz", path = "data.npz" }'
        )
    )

    done = run(*MPIRUN, "-n", "2", DBP, "train", str(spec), "--run", str(tmp_path / "run"))

    assert done.returncode == 2
    assert done.stderr.count("class 10") == 1
    assert "Traceback" not in done.stderr
    assert result(tmp_path / "run")["reason"] == "INVALID_DATA"


def test_ranks_that_read_different_files_do_not_begin(tmp_path: Path, spec: Path) -> None:
    for rank in (0, 1):
        x = np.random.default_rng(rank).normal(size=(100 + rank, 8))
        np.savez(tmp_path / f"data-{rank}.npz", x=x, y=np.arange(100 + rank) % 10)
    reader = '{ kind = "npz", path = "data-${OMPI_COMM_WORLD_RANK}.npz" }'
    text = spec.read_text().replace('test = { kind = "digits", part = "test" }', "")
    spec.write_text(text.replace('train = { kind = "digits" }', f"train = {reader}"))

    done = run(*MPIRUN, "-n", "2", DBP, "train", str(spec), "--run", str(tmp_path / "run"))

    assert done.returncode == 2
    assert done.stderr.count("rank 1 has another number of samples than rank 0") == 1


def test_a_rank_that_raises_ends_the_job_with_its_traceback_once(
    tmp_path: Path, endless: Path
) -> None:
    done = run(
        *MPIRUN, "-n", "2", sys.executable, "-c", POISONED,
        "train", str(endless), "--run", str(tmp_path / "run"),
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.count("RuntimeError: a fault of this rank") == 1
    assert "rank 1 of 2 failed" in done.stderr
    told = result(tmp_path / "run")
    assert (told["status"], told["reason"]) == ("failed", "RANK_EXCEPTION")
    assert (told["step"], told["epoch"]) == (19, 1), "the step reached, not step 0"
    assert told["message"] == "rank 1: RuntimeError: a fault of this rank"


def test_a_rank_that_raises_before_the_ranks_have_met_shows_its_traceback_once(
    tmp_path: Path, endless: Path
) -> None:
    code = (
        "import os, sys\n"
        "import dbp.train.check.inspection as inspection\n"
        "def faulty(*arguments):\n"
        "    raise RuntimeError('a fault of this rank')\n"
        "if os.environ['OMPI_COMM_WORLD_RANK'] == '1':\n"
        "    inspection.inspect = faulty\n"
        "from dbp.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )

    done = run(
        *MPIRUN, "-n", "2", sys.executable, "-c", code,
        "train", str(endless), "--run", str(tmp_path / "run"),
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "rank 1 of 2 failed" in done.stderr
    assert "RuntimeError: a fault of this rank" in done.stderr


def test_ctrl_c_stops_one_process_at_a_step_and_saves_the_parameters(
    tmp_path: Path, endless: Path
) -> None:
    process = start(DBP, "train", str(endless), "--run", str(tmp_path / "run"))
    wait_for_training(tmp_path / "run")

    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=DEADLINE)

    assert process.returncode == 75, errors
    assert result(tmp_path / "run")["status"] == "stopped"
    assert np.isfinite(vector(tmp_path / "run")).all()
    assert "stopped on request: epoch " in output
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 1), (signal.SIGUSR1, 75)], ids=["SIGINT", "SIGUSR1"]
)
def test_a_signal_to_mpirun_stops_all_ranks_and_saves_the_parameters(
    tmp_path: Path, endless: Path, number: signal.Signals, code: int
) -> None:
    command = [*MPIRUN, "-n", "2", DBP, "train", str(endless), "--run", str(tmp_path / "run")]
    process = start(*command)
    wait_for_training(tmp_path / "run")
    ranks = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE)

    assert process.returncode == code, errors  # an interrupted mpirun has its own code
    assert result(tmp_path / "run")["status"] == "stopped"
    assert np.isfinite(vector(tmp_path / "run")).all()
    assert len(ranks) >= 2
    assert psutil.wait_procs(ranks, timeout=DEADLINE)[1] == []


def test_a_process_alone_needs_no_mpi(tmp_path: Path, spec: Path) -> None:
    code = (
        "import sys; sys.modules['mpi4py'] = None\n"
        "from dbp.cli.main import main; main(sys.argv[1:])"
    )

    done = run(
        sys.executable, "-c", code, "train", str(spec), "--run", str(tmp_path / "run"), "-q",
        "--output", "json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["status"], summary["step"]) == ("succeeded", 40)
    assert summary["run"] == str(tmp_path / "run")


def test_the_command_line_can_set_the_length(tmp_path: Path, spec: Path) -> None:
    done = run(DBP, "train", str(spec), "--epochs", "1", "--run", str(tmp_path / "run"), "-q")

    assert done.returncode == 0, done.stderr
    assert result(tmp_path / "run")["step"] == 26  # 1,293 samples in mini-batches of 50
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_folder_with_other_files_is_refused(tmp_path: Path, spec: Path) -> None:
    done = run(DBP, "train", str(spec), "--run", str(tmp_path))

    assert done.returncode == 2
    assert "holds other files (small.toml)" in done.stderr


def test_a_service_that_is_not_there_is_reported_before_training(
    tmp_path: Path, spec: Path
) -> None:
    done = run(
        DBP, "train", str(spec), "--run", str(tmp_path / "run"), "--service", "127.0.0.1:1"
    )

    assert done.returncode == 3
    assert "127.0.0.1:1" in done.stderr
    assert not (tmp_path / "run" / "parameters.safetensors").exists()


def test_the_digits_example_reaches_its_accuracy(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "deploy" / "jobs" / "digits.toml"

    done = run(
        DBP, "train", str(example), "-n", "2", "--epochs", "60", "--run", str(tmp_path / "run")
    )

    assert done.returncode == 0, done.stderr
    metrics = result(tmp_path / "run")["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["test_accuracy"] >= 0.96


def test_the_mnist_example_names_its_four_files_when_they_are_missing(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "deploy" / "jobs" / "mnist.toml"
    command = [DBP, "train", str(example), "--run", str(tmp_path / "run")]

    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
        env=environment(DBP_MNIST=str(tmp_path)),
    )  # fmt: skip

    assert done.returncode == 2
    for part in ("train", "t10k"):
        assert f"{tmp_path}/{part}-images-idx3-ubyte.gz" in done.stderr
        assert f"{tmp_path}/{part}-labels-idx1-ubyte.gz" in done.stderr
