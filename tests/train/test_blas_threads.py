"""The number of BLAS threads during runs, and after the last one."""

from __future__ import annotations

import threadpoolctl

from dbp.train.blas_threads import one_blas_thread
from tests.train.fit_setups import blas_threads


def test_overlapping_calls_restore_the_threads_when_the_last_one_ends() -> None:
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas_threads() == [1] * len(before)
        second.__exit__(None, None, None)
        assert blas_threads() == before
