from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from dbp.train.check.arithmetic import arithmetic
from tests.deadline import DEADLINE

TELL = "from dbp.train.check.arithmetic import arithmetic; print(arithmetic())"


def tell(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TELL],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True, text=True, check=True, timeout=DEADLINE,
    )  # fmt: skip
    return done.stdout


def test_arithmetic_names_numpy_blas_and_kernels() -> None:
    text = arithmetic()

    assert f"numpy {np.__version__} (" in text
    assert "thread" in text


def test_arithmetic_differs_with_the_number_of_threads() -> None:
    assert tell(OPENBLAS_NUM_THREADS="1") == tell(OPENBLAS_NUM_THREADS="1")
    assert tell(OPENBLAS_NUM_THREADS="1") != tell(OPENBLAS_NUM_THREADS="2")
