"""What a computation's last bits depend on beside the program: the machine's arithmetic."""

from __future__ import annotations

import functools
import platform
from typing import Any

import numpy as np
import threadpoolctl

from dbp.quantities import count_text


@functools.cache
def arithmetic() -> str:
    """numpy, its BLAS and the kernels that they use here, in one line.

    Where two machines say the same, exact numerics give the same bits on both. A BLAS picks
    its kernel by the processor; OPENBLAS_CORETYPE picks one for machines that differ, and
    NPY_DISABLE_CPU_FEATURES does it for numpy.
    """
    parts = [f"numpy {np.__version__} ({_numpy_kernels()})"]
    loaded = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    # Other packages may have brought a BLAS of their own; numpy's lies beside numpy.
    for library in [info for info in loaded if "numpy" in info["filepath"]] or loaded:
        kernel = library.get("architecture", "")
        parts.append(
            f"{library['internal_api']} {library['version']} "
            f"({kernel}, {count_text(library['num_threads'], 'thread')})"
        )
    return ", ".join([*parts, platform.machine()])


def _numpy_kernels() -> str:
    """The widest processor features that numpy has kernels for and uses."""
    configuration: Any = np.show_config(mode="dicts")
    extensions = configuration.get("SIMD Extensions", {})
    found = extensions.get("found") or extensions.get("baseline") or ["plain"]
    return str(found[-1])
