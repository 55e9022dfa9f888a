"""Cast floating-point tensors to 16 bits for readers that ask for it. Lossy."""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

from dbp.errors import InvalidInput

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


def cast_bytes(data: bytes, dtype: str, cast: str, name: str) -> bytes:
    """Return the values rounded to nearest, ties to even.

    InvalidInput if a finite value would become infinite; ``name``: the tensor, for the message.
    """
    values = np.frombuffer(data, DTYPES[dtype])
    with np.errstate(over="ignore", invalid="ignore"):
        found = values.astype(DTYPES[cast])
        lost = np.isinf(found.astype(np.float32)) & np.isfinite(values)
    if lost.any():
        raise InvalidInput(
            f"cast: tensor {name!r} holds {values[lost][0]:g}, beyond the range of {cast}"
            + ("; BF16 has that of float32" if cast == "F16" and dtype == "F32" else "")
        )
    return found.tobytes()
