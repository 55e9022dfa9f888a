"""Print the tensors of a parameter set, with their norms, and write it as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dbp.cli.screen.output import echo, table, writing
from dbp.json_value import JsonValue

if TYPE_CHECKING:
    import numpy as np

    from dbp.client.parameter_set import ParameterSet


def write_set(file: Path | None, found: ParameterSet, *sources: Path) -> None:
    """Write the set's safetensors file, if one is wanted; never over one of the sources."""
    from dbp.storage.atomic_file import write_file

    if file is not None:
        with writing(file, *sources):
            write_file(file, [found.content])


def echo_set(
    title: str, found: ParameterSet, file: Path | None, proof: list[str] | None = None
) -> None:
    """Print a table of tensors, then the verified properties and the path of the file."""
    echo(title)
    rows = [
        (name, " x ".join(map(str, tensor.shape)), str(tensor.dtype), f"{_norm(tensor):.6g}")
        for name, tensor in found.tensors.items()
    ]
    echo(table([("TENSOR", "SHAPE", "TYPE", "NORM"), *rows]))
    for line in proof or ():
        echo(f"verified: {line}")
    if file is not None:
        echo(f"written to {file} ({len(found.content):,} bytes)")


def tensor_rows(found: ParameterSet) -> list[dict[str, JsonValue]]:
    """Return each tensor's name, shape, type and Euclidean norm as JSON values."""
    return [
        {
            "name": name,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype),
            "norm": _norm(tensor),
        }
        for name, tensor in found.tensors.items()
    ]


def _norm(tensor: np.ndarray) -> float:
    import numpy as np

    return float(np.linalg.norm(tensor.astype(np.float64).ravel()))
