"""Refuse gRPC in a process that was forked after its parent had used gRPC.

gRPC's threads do not survive a fork, but its locks do: inherited channels hang; new ones hang,
abort or crash, even if the parent's were closed. A fork followed by exec is safe, and so is a
fork before the first channel: https://github.com/grpc/grpc/blob/master/doc/fork_support.md
"""

from __future__ import annotations

import os
from typing import Final

from dbp.errors import ClientForked

TEXT: Final = (
    "this process was forked from one that had made a dbp client; gRPC does not survive a "
    "fork, so neither that client nor a new one works here. Start processes with "
    "multiprocessing.get_context('spawn') or 'forkserver', or fork before the first client is "
    "made and make clients in the children; fork with exec (subprocess) is fine"
)

FORK_SUPPORT: Final = "GRPC_ENABLE_FORK_SUPPORT"

_started = False  # this process, or one that it was forked from, has made a channel
_forked = False  # it was forked after that


def import_grpc() -> None:
    """Import gRPC without its fork handlers: they start threads in a child, which crash it.

    $GRPC_ENABLE_FORK_SUPPORT overrides this. It has no effect if gRPC was imported before.
    """
    if FORK_SUPPORT in os.environ:
        return
    os.environ[FORK_SUPPORT] = "0"
    try:
        import grpc  # noqa: F401 (it reads the variable when it is imported)
    finally:
        del os.environ[FORK_SUPPORT]


def start_grpc() -> None:
    """Note that this process makes a channel; raises ClientForked where it must not."""
    global _started
    check_not_forked()
    _started = True


def check_not_forked() -> None:
    """Raise ClientForked in a process that was forked after a channel was made."""
    if _forked:
        raise client_forked()


def is_forked() -> bool:
    """Return whether this process was forked after a channel was made."""
    return _forked


def client_forked() -> ClientForked:
    """Return the error of every use of a client in such a process."""
    return ClientForked(TEXT)


def _note_fork() -> None:
    global _forked
    _forked = _started


os.register_at_fork(after_in_child=_note_fork)
