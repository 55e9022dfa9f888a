"""Limit BLAS to one thread while a run computes in the process of another program."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import threadpoolctl

_lock = threading.Lock()
_runs = 0
_limits: threadpoolctl.threadpool_limits | None = None


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Compute with one BLAS thread inside the block, as every rank of a run does.

    The limit is the process's: it also holds in other threads. Several blocks may overlap in
    several threads; when the last one ends, each BLAS library has the number of threads that
    it had before the first.
    """
    global _runs, _limits
    with _lock:
        _runs += 1
        if _limits is None:
            _limits = threadpoolctl.threadpool_limits(1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            if _runs == 0 and _limits is not None:
                _limits.restore_original_limits()
                _limits = None
