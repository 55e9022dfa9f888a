"""All ranks must hold the same plan before the first step. It compares; it repairs nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from dbp.errors import InvalidInput
from dbp.parallel.communicator import Communicator


def check_agreement(facts: Mapping[str, object], communicator: Communicator) -> None:
    """Raise InvalidInput, on every rank alike, where a rank's facts are not rank 0's.

    ``facts``: what must be equal, by its name for people; every rank names the same facts.
    One small exchange.
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
