"""``dbp spec schema``, and Taplo with the schema that it writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dbp.cli.spec import schema, spec
from dbp.errors import InvalidInput
from dbp.job.spec.json_schema import job_schema
from tests.deadline import DEADLINE

JOB = """\
#:schema ./job.schema.json
# 1,797 real handwritten digits.
name = "digits"
seed = 1

[data]
train      = { kind = "digits", part = "train" }
validation = { fraction = 0.1 }

[model]
layers = [
  { kind = "dense", units = 16, activation = "relu" },
  { kind = "residual", layers = [
    { kind = "dense", units = 16, activation = { kind = "elu" } },
  ] },
  "flatten",
  { kind = "dense", units = 10, weight_initializer = "glorot_normal" },
]
loss = "softmax_cross_entropy"

[optimizer]
kind          = "adam"
learning_rate = { kind = "warmup", steps = 3, then = 1e-3 }

[train]
epochs = 2
stop   = { metric = "validation_loss", patience = 1 }
"""

FAULTS = {
    "unknown field": ("epochs =", "epoch ="),
    "unknown option": ("units = 10", "unit = 10"),
    "unknown kind": ('kind          = "adam"', 'kind = "adm"'),
    "wrong type": ("seed = 1", 'seed = "1"'),
    "a float for an integer": ("seed = 1", "seed = 1.0"),
    "out of range": ("fraction = 0.1", "fraction = 1"),
    "a rate below zero": ("then = 1e-3", "then = -1"),
    "an unknown choice": ('part = "train"', 'part = "tran"'),
    "an activation of an activation": (
        '{ kind = "elu" }', '{ kind = "elu", activation = "relu" }'
    ),
}  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job file that names the schema beside it."""
    CliRunner().invoke(
        schema, ["-o", str(tmp_path / "job.schema.json")], catch_exceptions=False
    )
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return path


def test_the_schema_is_printed_as_json() -> None:
    result = CliRunner().invoke(schema, [], catch_exceptions=False)

    assert json.loads(result.output) == job_schema()


def test_the_schema_is_written_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "job.schema.json"

    result = CliRunner().invoke(schema, ["-o", str(file)], catch_exceptions=False)

    assert json.loads(file.read_text()) == job_schema()
    assert result.output == f"written to {file} ({file.stat().st_size:,} bytes)\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none/x\.json: cannot be written: no such folder"):
        CliRunner().invoke(
            schema, ["-o", str(tmp_path / "none" / "x.json")], catch_exceptions=False
        )


def test_a_job_file_may_name_its_schema(job: Path) -> None:
    for command in ("check", "resolve"):
        result = CliRunner().invoke(spec, [command, str(job)], catch_exceptions=False)
        assert result.exit_code == 0


def taplo(job: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Check a job file with Taplo; skip without it."""
    beside = str(Path(sys.executable).with_name("taplo"))
    program = shutil.which(beside) or shutil.which("taplo")
    if program is None:
        pytest.skip("Taplo is not installed: pip install taplo")
    return subprocess.run(
        [program, "check", "--no-auto-config", "--colors=never", *options, job.name],
        cwd=job.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=DEADLINE,
    )  # fmt: skip


def test_taplo_accepts_a_valid_job_file(job: Path) -> None:
    done = taplo(job)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_taplo_refuses_what_check_refuses(job: Path, fault: str) -> None:
    old, new = FAULTS[fault]
    assert JOB.count(old) == 1
    text = JOB.replace(old, new)

    job.write_text(text)
    assert taplo(job).returncode != 0
    job.write_text(text.partition("\n")[2])
    assert taplo(job).returncode == 0  # without the schema


def test_taplo_takes_the_schema_as_an_option(job: Path) -> None:
    job.write_text(JOB.partition("\n")[2].replace("units = 10", "unit = 10"))

    assert taplo(job).returncode == 0
    url = (job.parent / "job.schema.json").as_uri()
    assert taplo(job, f"--schema={url}").returncode != 0
