"""Make all ranks raise the same error, hold the same value, and start with equal settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from dbp.errors import DataChanged, DbpError, InvalidInput, RunDiskFull
from dbp.job.failure import FailureReason
from dbp.parallel.communicator import Communicator

T = TypeVar("T")

# First byte of a failure as it is sent; other errors become InvalidInput.
_KINDS: Final = {b"c": DataChanged, b"f": RunDiskFull, b"o": InvalidInput}


def all_or_none(communicator: Communicator, action: Callable[[], T]) -> T:
    """Run ``action`` on every rank; if it raises a DbpError on one, raise on all ranks.

    Returns the result of this rank's call. Every rank raises InvalidInput, DataChanged or
    RunDiskFull, with the text of the first rank that failed, so that all ranks end and rank 0
    can log the text.
    Collective.
    """
    result: list[T] = []
    text = b""
    try:
        result.append(action())
    except DbpError as error:
        first = next((key for key, kind in _KINDS.items() if isinstance(error, kind)), b"o")
        text = first + (str(error).encode() or b"failed")
    lengths = np.empty(communicator.size, np.int64)
    communicator.allgather(np.array([len(text)], np.int64), lengths)
    if not lengths.any():
        return result[0]
    rank = int(np.argmax(lengths > 0))
    letters = np.zeros(lengths[rank], np.uint8)
    if rank == communicator.rank:
        letters[:] = np.frombuffer(text, np.uint8)
    communicator.broadcast(letters, rank)
    found = letters.tobytes()
    message = found[1:].decode()
    raise _KINDS[found[:1]](message if rank == 0 else f"on rank {rank}: {message}")


def value_of_first(communicator: Communicator, value: object) -> Any:
    """Return the value of rank 0 on every rank, as JSON has it. Collective.

    The values of other ranks do not count. Raises TypeError on rank 0 for what JSON has not.
    """
    text = json.dumps(value).encode() if communicator.rank == 0 else b""
    length = np.array([len(text)], np.int64)
    communicator.broadcast(length)
    letters = np.zeros(int(length[0]), np.uint8)
    letters[: len(text)] = np.frombuffer(text, np.uint8)
    communicator.broadcast(letters)
    return json.loads(letters.tobytes())


def reason_of(error: InvalidInput) -> FailureReason:
    """Return why a run ends that an error of ``all_or_none`` ends."""
    if isinstance(error, DataChanged):
        return FailureReason.DATA_CHANGED
    full = isinstance(error, RunDiskFull)  # and the run was asked to stop meanwhile
    return FailureReason.NOT_WRITTEN if full else FailureReason.INVALID_DATA


def check_agreement(facts: Mapping[str, object], communicator: Communicator) -> None:
    """Raise InvalidInput on every rank if the facts of a rank differ from those of rank 0.

    ``facts`` holds values that must be equal, by the name that messages use; the names are the
    same on every rank. Makes one small all-gather.
    """
    own = np.array([_digest(value) for value in facts.values()], np.int64)
    every = np.empty(communicator.size * own.size, np.int64)
    communicator.allgather(own, every)
    table = every.reshape(communicator.size, own.size)
    different = table != table[0]
    if not different.any():
        return
    lines = [
        f"rank {rank} has another {name} than rank 0"
        for rank in np.flatnonzero(different.any(axis=1))
        for name, differs in zip(facts, different[rank], strict=True)
        if differs
    ]
    raise InvalidInput(
        f"the ranks were not started alike: {'; '.join(lines)}. "
        "Give all of them the same spec, the same data files and the same version of dbp"
    )


def _digest(value: object) -> int:
    digest = hashlib.sha256(str(value).encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)
