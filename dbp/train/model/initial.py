"""Load initial parameters from a safetensors file, of dbp or of another program, by name.

Names and shapes must be those of the model, as in ``torch.nn.Sequential``. PyTorch's count of
mini-batches of a batch normalization (``num_batches_tracked``) is ignored.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.column_names import columns_of
from dbp.data.content import recognize
from dbp.data.file import DataFile
from dbp.data.quoting import hint, shown
from dbp.data_access import exists, hides_contents, status_of
from dbp.errors import InvalidData, InvalidFile, InvalidSpec, Violation, nearest
from dbp.job.snapshot import Manifest, TensorInfo, decode_header, header_length
from dbp.nn.layer import Array, Shape
from dbp.nn.parameters import Parameters
from dbp.quantities import count_text
from dbp.train.model.columns import input_difference
from dbp.train.report.run_files import PARAMETERS

FIELD: Final = "train.initial_parameters"

# bfloat16 is the upper half of a float32.
_DTYPES: Final = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}

_COUNTER: Final = ".num_batches_tracked"


def check_initial(path: str, shapes: Mapping[str, Shape], inputs: tuple[str, ...] = ()) -> None:
    """Compare the names and shapes in a file's header with a model's tensors.

    ``inputs`` are the names of the training set's inputs, if they have names; names in a file
    of dbp must be the same, in the same order. Raises InvalidSpec with all differences, and
    InvalidFile for a file that is not safetensors.
    """
    _read_header(_opened(path), shapes, inputs)


def load_initial(
    path: str, shapes: Mapping[str, Shape], dtype: npt.DTypeLike, inputs: tuple[str, ...] = ()
) -> Parameters:
    """Read the file's tensors as parameters of this type.

    Raises the errors of ``check_initial``, and InvalidSpec if a value is not finite or cannot
    be represented exactly in this type: nothing is rounded.
    """
    parameters = Parameters.zeros(shapes, dtype)
    file = _opened(path)
    manifest, start = _read_header(file, shapes, inputs)
    problems = []
    for tensor in manifest.tensors:
        if tensor.name in parameters.views:
            data = np.empty(tensor.size_bytes, np.uint8)
            file.read_into(data, start + tensor.offset)
            problem = _write(_values(data, tensor), tensor, parameters[tensor.name])
            problems += [problem] if problem else []
    _raise(path, problems)
    return parameters


def _opened(path: str) -> DataFile:
    """Open the file once: everything is read from this descriptor."""
    try:
        if stat.S_ISDIR(status_of(path).st_mode):
            raise InvalidFile(
                f"{FIELD}: {path}: is a folder; name the file in it: "
                f"{Path(path) / 'parameters.safetensors'}"
            )
        return DataFile(path)
    except InvalidData as error:
        raise InvalidFile(f"{FIELD}: {error}") from error
    except OSError as error:
        raise InvalidFile(f"{FIELD}: {path}: {error.strerror}") from error


def _read_header(
    file: DataFile, shapes: Mapping[str, Shape], inputs: tuple[str, ...]
) -> tuple[Manifest, int]:
    """Read the header of a file; check its tensors and inputs against the model.

    Returns it, and the offset of the tensors' data.
    """
    source = f"{FIELD}: {file.name}"
    _check_content(file, source)
    try:
        length = header_length(file.read(0, 8), source)
        text = file.read(8, length)
        manifest = decode_header(text, source)
    except InvalidFile as error:
        if hides_contents():
            raise InvalidFile(f"{source}: not a safetensors file, or a damaged one") from error
        raise
    size = file.size - 8 - length
    if len(text) != length or size != manifest.size_bytes:
        raise InvalidFile(
            f"{source}: cut off or too long: {count_text(size, 'byte')} of data, the "
            f"header says {manifest.size_bytes:,}"
        )
    problem = input_difference(inputs, columns_of(manifest.metadata, source).inputs)
    _raise(file.name, [*_differences(manifest, shapes), *([problem] if problem else [])])
    return manifest, 8 + length


def _differences(manifest: Manifest, shapes: Mapping[str, Shape]) -> list[str]:
    """Return a message for each difference between a file's tensors and the model's."""
    found = {t.name: t for t in manifest.tensors if not _is_counter(t.name, shapes)}
    missing = [name for name in shapes if name not in found]
    unexpected = [name for name in found if name not in shapes]
    return [
        *(
            f"has no tensor {name!r} of shape {shapes[name]}{hint(nearest(name, unexpected))}"
            for name in missing
        ),
        *(
            f"has {shown(repr(name), 'a tensor')}, which the model lacks"
            f"{hint(nearest(name, missing))}"
            for name in unexpected
        ),
        *_unfit((found[name], shapes[name]) for name in shapes if name in found),
    ]


def _unfit(pairs: Iterable[tuple[TensorInfo, Shape]]) -> list[str]:
    problems = []
    for tensor, shape in pairs:
        if tensor.shape != shape:
            problems.append(
                f"has {tensor.name!r} of shape {tensor.shape}, but the model's is {shape}"
            )
        elif tensor.dtype not in _DTYPES:
            problems.append(
                f"has {tensor.name!r} of dtype "
                f"{shown(tensor.dtype, 'of others')}, expected one of {', '.join(_DTYPES)}"
            )
    return problems


def _is_counter(name: str, shapes: Mapping[str, Shape]) -> bool:
    """Return whether a name is PyTorch's count for running statistics of the model."""
    layer = name.removesuffix(_COUNTER)
    return layer != name and f"{layer}.running_mean" in shapes


def _values(data: npt.NDArray[np.uint8], tensor: TensorInfo) -> Array:
    values: npt.NDArray[Any] = data.view(_DTYPES[tensor.dtype])
    if tensor.dtype == "BF16":
        values = (values.astype("<u4") << 16).view("<f4")
    return values.reshape(tensor.shape)


def _write(values: Array, tensor: TensorInfo, out: Array) -> str:
    """Convert to the model's type; return an error message, "" for none."""
    if not np.isfinite(values).all():
        return f"has values in {tensor.name!r} that are not finite"
    with np.errstate(over="ignore", under="ignore"):
        out[...] = values
    changed = int(np.count_nonzero(out != values))
    if changed:
        return (
            f"has {count_text(changed, 'value')} in {tensor.name!r} that {out.dtype} cannot "
            f'hold exactly; set train.dtype = "float64", or save the file in {out.dtype}'
        )
    return ""


def _raise(path: str, problems: Iterable[str]) -> None:
    violations = [Violation(FIELD, f"{path}: {problem}") for problem in problems]
    if violations:
        raise InvalidSpec(violations)


def read_parameter_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a parameter file; raise InvalidFile if it is another format."""
    name = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidFile(f"{name}: {error.strerror}") from error
    with contextlib.suppress(InvalidData):
        _check_content(DataFile(name), name)
    return content


def _check_content(file: DataFile, source: str) -> None:
    """Raise InvalidFile if a file's content is known and not safetensors.

    ``source`` names the file in the error.
    """
    found = recognize(file)
    if found is not None and found.kind != "safetensors":
        remedy = "" if found.kind else f"; {found.remedy}"
        folder = Path(file.name).parent
        if exists(folder / PARAMETERS):  # a record of a run, such as result.json
            remedy = f"; name the run folder: {folder}"
        raise InvalidFile(
            f"{source}: not a safetensors file: it looks like {found.name}{remedy}"
        )
