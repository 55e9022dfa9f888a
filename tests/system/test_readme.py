"""Every command the README shows is run here, as a newcomer would: by a shell, in order."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dbp.job.state import RunOutcome
from dbp.launching import launch_environment
from dbp.train.report.run_files import write_outcome
from tests.deadline import DEADLINE, until

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the lines with a prompt, without their comments, in the README's order."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [re.split(r"\s{2,}# ", line.removeprefix("$ "))[0].strip() for line in lines]


def runnable(command: str) -> str:
    """Return the command; without grpcurl, the same call of buf's, by reflection as well."""
    if not command.startswith("grpcurl ") or shutil.which("grpcurl"):
        return command
    given = command.removeprefix("grpcurl -plaintext -unix ")
    *options, socket, method = given.split(" ")
    return (
        f"buf curl --protocol grpc --http2-prior-knowledge --unix-socket {socket} "
        f"{' '.join(options)} http://localhost/{method}"
    )


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a checkout, with a small stand-in for MNIST's files."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    rng = np.random.default_rng(0)
    for name, samples in (("train", 6_000), ("t10k", 50)):
        write_idx(
            tmp_path / f"{name}-images-idx3-ubyte.gz", rng.integers(0, 256, (samples, 28, 28))
        )
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", rng.integers(0, 10, samples))
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    binaries = str(Path(sys.executable).parent)
    return {
        **launch_environment(2),
        "PATH": os.pathsep.join([binaries, os.environ["PATH"]]),
        "DBP_MNIST": str(folder),
        "TMPDIR": str(folder),
    }


def shell(script: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def service(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`dbp serve`, on a socket; the folder of its state."""
    process = subprocess.Popen(
        ["dbp", "serve", "--state", str(folder / "state"), "--slots", "2", "--output", "json"],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield str(json.loads(process.stdout.readline())["state"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        assert process.wait(DEADLINE) == 0


def test_the_two_commands_exist() -> None:
    for target in ("demo", "test", "install"):
        assert f"make {target}" in README
        done = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE
        )
        assert done.returncode == 0, done.stderr


def test_readme_commands_without_a_service_work(
    folder: Path, environment: dict[str, str]
) -> None:
    shown = commands()
    local = [c for c in shown[: shown.index("dbp serve")] if not c.startswith("make")]
    assert len(local) >= 7

    output = shell(local, folder, environment)

    assert "test_accuracy" in output
    assert "setosa" in output.splitlines()  # the prediction for one's own row
    for run in ("one", "two", "iris", "mnist"):
        names = {path.name for path in (folder / "runs" / run).iterdir()}
        assert names >= {"parameters.safetensors", "metrics.jsonl", "spec.json", "result.json"}


def test_readme_commands_with_a_service_work(
    folder: Path, environment: dict[str, str], service: str
) -> None:
    shown = commands()
    remote = shown[shown.index("dbp serve") + 1 :]
    assert len(remote) >= 9

    output = shell(
        [runnable(command) for command in remote],
        folder,
        {**environment, "DBP_STATE": service},
    )

    assert "SUCCEEDED" in output
    assert "test set, 360 samples" in output
    assert '"0.weight"' in output  # from the call by reflection


def test_the_example_without_a_service(folder: Path, environment: dict[str, str]) -> None:
    program, _, _ = blocks("python")
    (folder / "example.py").write_text(program)

    output = shell([f"{sys.executable} example.py"], folder, environment)

    first, second, *report = output.splitlines()
    assert first.endswith("(32, 2)")
    assert float(first.split()[0]) > 0.9
    assert second.startswith("[1 0] {'loss': ")
    assert report[0].startswith("Confusion matrix: ")
    assert (folder / "quadrants.safetensors").exists()


def test_the_example_with_scikit_learn(folder: Path, environment: dict[str, str]) -> None:
    _, program, _ = blocks("python")
    (folder / "example.py").write_text(program)

    output = shell([f"{sys.executable} example.py"], folder, environment)

    assert output.startswith("{'dbpclassifier__learning_rate': 0.01} 0.9")
    assert (folder / "digits.safetensors").exists()


def test_the_python_example(folder: Path, environment: dict[str, str], service: str) -> None:
    _, _, program = blocks("python")
    (folder / "example.py").write_text(program)

    output = shell(
        [f"{sys.executable} example.py"], folder, {**environment, "DBP_STATE": service}
    )

    assert "(128, 64)" in output
    *_, state, losses = output.splitlines()
    assert state == "SUCCEEDED"
    step, mean, greatest = map(float, losses.split())
    assert step > 0
    assert mean < greatest


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node and npm")
def test_the_node_example(folder: Path, environment: dict[str, str], service: str) -> None:
    (program,) = blocks("javascript")
    (install,) = re.findall(r"`npm (install [^`]+)`", README)
    (folder / "protos").symlink_to(ROOT / "protos")
    (folder / "params.mjs").write_text(program)
    npm = ["npm", *install.split(), "--no-audit", "--no-fund", f"--cache={folder / 'npm'}"]
    try:
        subprocess.run(npm, cwd=folder, check=True, capture_output=True, timeout=DEADLINE)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"the packages cannot be installed: {error}")

    output = shell(
        [
            "JOB=$(dbp submit deploy/jobs/digits.toml --workers 1)",
            "dbp watch $JOB",
            "export DBP_SERVICE=$(dbp health | sed 's/: .*//')",
            "node params.mjs $JOB",
        ],
        folder,
        {**environment, "DBP_STATE": service},
    )

    assert "0.bias [ 128 ]" in output


def test_the_table_and_its_job_are_quoted_from_the_files() -> None:
    jobs = ROOT / "deploy" / "jobs"
    (spec,) = blocks("toml")
    first_lines = "".join((jobs / "iris.csv").read_text().splitlines(keepends=True)[:3])

    assert (jobs / "iris.toml").read_text().endswith(spec)
    assert first_lines in README


def test_the_slurm_script_trains_in_a_chain_until_the_run_is_complete(
    folder: Path, environment: dict[str, str]
) -> None:
    job = [str(ROOT / "deploy/slurm/train.sh"), "deploy/jobs/iris.toml", "runs/chain"]
    result = folder / "runs" / "chain" / "result.json"

    def run_one(seconds: str) -> str:
        return shell(
            [" ".join(job)],
            folder,
            {**environment, "SLURM_NTASKS": "2", "DBP_MAX_SECONDS": seconds},
        )

    run_one("1e-6")
    assert json.loads(result.read_text())["reason"] == "time"
    run_one("600")
    assert json.loads(result.read_text())["reason"] == "converged"
    assert run_one("600") == "runs/chain has ended\n"


def test_the_slurm_script_resumes_a_run_that_was_stopped(
    folder: Path, environment: dict[str, str]
) -> None:
    run = folder / "runs" / "stopped"
    process = subprocess.Popen(
        ["dbp", "train", "deploy/jobs/digits.toml", "--run", str(run), "-q"],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 75
    assert json.loads((run / "result.json").read_text())["status"] == "stopped"

    shell(
        [f"{ROOT / 'deploy/slurm/train.sh'} deploy/jobs/digits.toml {run}"],
        folder,
        {**environment, "SLURM_NTASKS": "2", "DBP_MAX_SECONDS": "1e-6"},
    )

    assert json.loads((run / "result.json").read_text())["reason"] == "time"


def test_the_slurm_script_fails_for_a_run_that_has_failed(
    folder: Path, environment: dict[str, str]
) -> None:
    run = folder / "failed"
    run.mkdir()
    (run / "spec.json").write_text("{}")
    outcome = RunOutcome("failed", "RANK_SIGNAL", 3, 1, message="killed")
    write_outcome(run, outcome)

    done = subprocess.run(
        [ROOT / "deploy/slurm/train.sh", "deploy/jobs/iris.toml", run], cwd=folder,
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (1, "")
    assert f"dbp train --resume {run}" in done.stderr


def test_paths_named_in_the_readme_exist() -> None:
    for path in re.findall(r"`((?:dbp|deploy|protos|tests)/[\w/.-]+?)/?`", README):
        assert (ROOT / path).exists(), path
    for room in re.findall(
        r"`((?:job|nn|optim|parallel|train|control|service)/\w+\.py)`", README
    ):
        assert (ROOT / "dbp" / room).exists(), room
