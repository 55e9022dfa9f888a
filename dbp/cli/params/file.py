"""`dbp params RUN` and `dbp params FILE`: the tensors of a parameter file on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dbp.cli.params.table import echo_set, tensor_rows, write_set
from dbp.cli.screen.output import echo_json
from dbp.client.parameter_set import ParameterSet, parameter_set
from dbp.errors import InvalidFile
from dbp.job.snapshot import Manifest, decode_header, encode_header, header_length, step_of
from dbp.job.state import Version
from dbp.versions.cast import cast_bytes
from dbp.versions.selection import selected
from dbp.versions.tensor_patterns import check_patterns


def show_file(
    path: Path, patterns: Sequence[str], cast: str, file: Path | None, output: str
) -> None:
    """Print the tensors of a safetensors file; write them to ``file``, if one is given.

    ``patterns``: names of tensors, empty for all. ``cast``: F16, BF16 or "". Raises
    InvalidFile, TensorNotFound.
    """
    whole, manifest = _read(path)
    found = _selected(whole, manifest, patterns, cast)
    write_set(file, found, path)
    number, job = found.version.version, found.metadata.get("dbp.job", "")
    step = step_of(manifest, -1)
    if output == "json":
        origin = {"job": job if number else None, "version": number or None}
        facts = {"step": None if step < 0 else step, "digest": whole.version.digest}
        size = {"size_bytes": whole.version.size_bytes}
        echo_json({"file": str(path), **origin, **facts, **size, "tensors": tensor_rows(found)})
        return
    title = [
        *([f"version {number} of job {job}"] if number and job else []),
        *([f"step {step:,}"] if step >= 0 else []),
        f"sha256 {whole.version.digest[:16]}",
    ]
    echo_set(f"{path}: {', '.join(title)}", found, file)


def _read(path: Path) -> tuple[ParameterSet, Manifest]:
    """Return the whole file and its header; raises InvalidFile, which names the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    length = header_length(content[:8], str(path))
    manifest = decode_header(content[8 : 8 + length], str(path))
    if len(content) - 8 - length != manifest.size_bytes:
        raise InvalidFile(
            f"{path}: cut off or too long: {len(content) - 8 - length:,} bytes of data, the "
            f"header says {manifest.size_bytes:,}"
        )
    version = Version(
        version=_number(manifest, "dbp.version"),
        step=step_of(manifest, 0),
        attempt=_number(manifest, "dbp.attempt"),
        digest=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        publish_time=path.stat().st_mtime,
    )
    return parameter_set(version, memoryview(content)), manifest


def _number(manifest: Manifest, name: str) -> int:
    text = manifest.metadata.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def _selected(
    whole: ParameterSet, manifest: Manifest, patterns: Sequence[str], cast: str
) -> ParameterSet:
    """Return the tensors that are asked for, cast, as a safetensors file of their own."""
    check_patterns(patterns)
    selection = selected(whole.version, manifest, patterns, cast)
    if selection.whole:
        return whole
    start = whole.version.size_bytes - manifest.size_bytes
    stored = {tensor.name: tensor for tensor in manifest.tensors}
    parts = [encode_header(selection.manifest)]
    for tensor in selection.manifest.tensors:
        source = stored[tensor.name]
        first = start + source.offset
        part = bytes(whole.content[first : first + source.size_bytes])
        if tensor.dtype != source.dtype:
            part = cast_bytes(part, source.dtype, tensor.dtype, tensor.name)
        parts.append(part)
    return parameter_set(whole.version, memoryview(b"".join(parts)))
