"""Read inputs of `dbp predict` from arrays: npy, npz, IDX, HDF5 and safetensors."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.cli.predict.files import InputFile
from dbp.data.array_names import INPUTS
from dbp.data.rows import Rows, check_finite
from dbp.errors import InvalidData, InvalidInput, alternatives
from dbp.train.model.trained_model import bfloat16_numbers

Array = npt.NDArray[Any]

# Names of the array of inputs where a file holds several and none is chosen: by convention of
# dbp's own exports, and by default of the readers of a spec.
_DEFAULTS: Final = ("inputs", INPUTS)
_LISTED: Final = 20


def read_array(file: InputFile, name: str = "") -> Array:
    """Return the array of inputs in a file, finite numbers; raises InvalidData.

    ``name``: of the array, where a file holds several; "" for its only one, inputs or x.
    """
    if name and file.kind in ("npy", "idx"):
        raise InvalidInput(f"--array: {file.path} holds one array, which has no name")
    if file.kind == "safetensors":
        rows = _tensor(file.path, name)
    elif file.kind == "npz":
        rows = _from_npz(file.path, name)
    elif file.kind == "hdf5":
        rows = _from_hdf5(file.path, name)
    else:
        rows = _only(file)
    if not rows.shape:
        raise InvalidData(f"{file.path}: holds one number, no rows")
    if not len(rows):
        raise InvalidData(f"{file.path}: shape {rows.shape}: there are no rows in it")
    return rows


def _chosen(path: Path, names: Sequence[str], name: str) -> str:
    """Return the name of the array of inputs among those in a file."""
    if name in names or (not name and len(names) == 1):
        return name or names[0]
    if name:
        raise InvalidData(
            f"{path}: no array {name!r}{alternatives(name, list(names)[:_LISTED], 'arrays')}"
        )
    for default in _DEFAULTS:
        if default in names:
            return default
    listed = ", ".join(names[:_LISTED]) or "none"
    likely = difflib.get_close_matches(_DEFAULTS[0], names, n=1) or names
    example = f": --array {shlex.quote(likely[0])}" if likely else ""
    raise InvalidData(f"{path}: which array holds the inputs? It has {listed}{example}")


def _only(file: InputFile) -> Array:
    from dbp.data import idx, npy_format

    name, form = str(file.path), npy_format if file.kind == "npy" else idx
    if not form.inspect_rows(name).shape:
        raise InvalidData(f"{file.path}: holds one number, no rows")
    return _whole(form.open_rows(name))


def _whole(rows: Rows) -> Array:
    if not rows.info.shape:
        raise InvalidData(f"{rows.info.name}: holds one number, no rows")
    whole = np.empty(rows.info.shape, rows.info.dtype)
    rows.take(np.arange(len(whole), dtype=np.int64), whole)
    return whole


def _from_npz(path: Path, name: str) -> Array:
    from dbp.data.npz import Archive

    with Archive.open(str(path)) as archive:
        return _whole(archive.rows(_chosen(path, archive.names(), name)))


def _from_hdf5(path: Path, name: str) -> Array:
    from dbp.data.hdf5_file import HDF5File, HDF5Rows

    file = HDF5File(str(path))
    return _whole(HDF5Rows(file, name or _chosen(path, file.names(), name)))


def _tensor(path: Path, name: str) -> Array:
    """Return a tensor of a safetensors file; BF16 becomes float32."""
    from dbp.client.parameter_set import NUMPY_DTYPES
    from dbp.job.snapshot import decode_header, header_length

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path}: {error.strerror}") from error
    start = 8 + header_length(content[:8], str(path))
    manifest = decode_header(content[8:start], str(path))
    size = len(content) - start
    if size != manifest.size_bytes:
        short = "short" if size < manifest.size_bytes else "long"
        raise InvalidData(
            f"{path}: too {short}: its header announces {manifest.size_bytes:,} bytes of "
            f"tensors, found {size:,}"
        )
    found = {tensor.name: tensor for tensor in manifest.tensors}
    tensor = found[_chosen(path, list(found), name)]
    part = content[start + tensor.offset : start + tensor.offset + tensor.size_bytes]
    if tensor.dtype == "BF16":
        rows = bfloat16_numbers(part).reshape(tensor.shape)
    else:
        rows = np.frombuffer(part, NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)
    check_finite(str(path), rows, np.arange(len(rows) if rows.ndim else 0))
    return rows
