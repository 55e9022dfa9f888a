"""A link is started without a fork, and inherits nothing of MPI."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dbp.link.child import without_mpi
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

# MPI libraries register such handlers, and a fork calls them.
PROGRAM = """
import ctypes, os, sys
from dbp.link.child import LinkChild

calls = []
handler = ctypes.CFUNCTYPE(None)(lambda: calls.append("fork"))
libc = ctypes.CDLL(None)
assert libc.__register_atfork(handler, None, None, None) == 0
left_open, other = os.pipe()
os.set_inheritable(other, True)  # as MPI leaves its sockets
memory = os.memfd_create("slots")
child = LinkChild(memory)
open_there = {os.readlink(f"/proc/{child._process.pid}/fd/{n}")
              for n in os.listdir(f"/proc/{child._process.pid}/fd")}
child.kill()
assert child.reap(60.0) == "was killed by SIGKILL", child.reap()
print(len(calls), os.readlink(f"/proc/self/fd/{other}") in open_there)
pid = os.fork()  # the handler works
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
print(len(calls))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's list of handlers")
def test_starting_a_link_calls_no_fork_handler_and_passes_no_descriptor_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=DEADLINE
    )

    assert (done.stdout, done.stderr) == ("0 False\n1\n", "")


def test_variables_of_all_mpi_libraries_are_removed_and_no_others() -> None:
    kept = {
        "PATH": "/bin",
        "TMPDIR": "/tmp",
        "DBP_ATTEMPT_FOLDER": "/a",
        "OMP_NUM_THREADS": "1",
    }
    mpi = {
        "OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_btl": "self", "PMIX_SERVER_URI41": "x",
        "PRTE_LAUNCHED": "1", "PMI_RANK": "0", "PMI_FD": "7", "MPI_LOCALRANKID": "0",
        "MPIR_CVAR_CH4_NETMOD": "ofi", "HYDI_CONTROL_FD": "8", "I_MPI_PIN": "1",
    }  # fmt: skip

    assert without_mpi(kept | mpi) == kept
