"""Memory that is freed in threads goes back to the system, or is used again."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys

import pytest

from tests.deadline import DEADLINE

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc"
    ),
]

# Eight threads allocate at once; a block of 16 MiB is freed, then another is allocated.
PROGRAM = """
import ctypes, sys, threading
from dbp.service.freed_memory import bound_freed_memory
if sys.argv[1] != "free":
    assert bound_freed_memory() == (sys.argv[1] == "bounded")
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
barrier = threading.Barrier(8)
def allocate():
    libc.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.free(libc.malloc(16 << 20))
libc.malloc(16 << 20)
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


def arenas_and_mappings(kind: str, **variables: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind], env={**os.environ, **variables},
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (mapped,) = re.findall(r'<total type="mmap" count="\d+" size="(\d+)"/>', done.stdout)
    return done.stdout.count("<heap nr="), int(mapped)


def test_freed_memory_stays_in_one_arena_and_without_large_blocks() -> None:
    arenas, mapped = arenas_and_mappings("bounded")
    assert arenas == 1
    assert mapped >= 16 << 20


def test_the_c_library_keeps_more_without_the_bound() -> None:
    arenas, mapped = arenas_and_mappings("free")
    assert arenas > 2
    assert mapped < 16 << 20


def test_limits_that_the_user_has_set_stay() -> None:
    arenas, mapped = arenas_and_mappings("user's", MALLOC_ARENA_MAX="4")
    assert 1 < arenas <= 4
    assert mapped < 16 << 20
