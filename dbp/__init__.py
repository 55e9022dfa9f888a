"""dbp: data-parallel training over MPI, with live parameters over gRPC.

Names are handed out lazily: ``import dbp`` loads neither numpy nor gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbp.client.async_client import AsyncClient
    from dbp.client.async_job import AsyncJobHandle
    from dbp.client.async_mirror import AsyncParameterMirror
    from dbp.client.client import Client
    from dbp.client.inference import Prediction
    from dbp.client.job import JobHandle
    from dbp.client.mirror import ParameterMirror
    from dbp.client.parameter_set import ParameterSet
    from dbp.errors import DbpError

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncParameterMirror",
    "Client",
    "DbpError",
    "JobHandle",
    "ParameterMirror",
    "ParameterSet",
    "Prediction",
    "__version__",
]

_HOMES = {
    "AsyncClient": "dbp.client.async_client",
    "AsyncJobHandle": "dbp.client.async_job",
    "AsyncParameterMirror": "dbp.client.async_mirror",
    "Client": "dbp.client.client",
    "DbpError": "dbp.errors",
    "JobHandle": "dbp.client.job",
    "ParameterMirror": "dbp.client.mirror",
    "ParameterSet": "dbp.client.parameter_set",
    "Prediction": "dbp.client.inference",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dbp' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
