"""Describe the numpy and BLAS builds and kernels that the last bits of results depend on."""

from __future__ import annotations

import functools
import platform
from typing import Any

import numpy as np
import threadpoolctl

from dbp.quantities import count_text


@functools.cache
def arithmetic() -> str:
    """Return numpy, its BLAS and the kernels that they use here, in one line.

    If the line is the same on two machines, exact numerics give the same bits on both. A BLAS
    chooses its kernel by the processor; on different machines OPENBLAS_CORETYPE selects the
    same one, and NPY_DISABLE_CPU_FEATURES does so for numpy.
    """
    parts = [f"numpy {np.__version__} ({_numpy_kernels()})"]
    loaded = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    # Other packages may have their own BLAS; that of numpy is in its folder.
    for library in [info for info in loaded if "numpy" in info["filepath"]] or loaded:
        kernel = library.get("architecture", "")
        parts.append(
            f"{library['internal_api']} {library['version']} "
            f"({kernel}, {count_text(library['num_threads'], 'thread')})"
        )
    return ", ".join([*parts, platform.machine()])


def _numpy_kernels() -> str:
    """Return the widest SIMD extension that numpy uses on this processor."""
    configuration: Any = np.show_config(mode="dicts")
    extensions = configuration.get("SIMD Extensions", {})
    found = extensions.get("found") or extensions.get("baseline") or ["plain"]
    return str(found[-1])
