"""Read, write and verify the file of one parameter version.

Long operations run in threads, off the event loop.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeAlias, final

from dbp.errors import InvalidInput
from dbp.job.snapshot import Manifest, decode_header, encode_header, header_length
from dbp.job.state import Version
from dbp.printable import is_printable
from dbp.storage.atomic_file import create
from dbp.storage.threads import in_thread
from dbp.versions.faults import corrupt, unreadable

BLOCK_BYTES: Final = 1 << 20
COPIED_AT_A_TIME: Final = 1 << 18  # stays in a core's own cache from reading to writing


@final
@dataclass(frozen=True)
class ByteRange:
    """A byte range of an open file."""

    descriptor: int
    offset: int


Chunks: TypeAlias = AsyncIterable[bytes] | Iterable[bytes] | ByteRange


@final
@dataclass(frozen=True)
class OpenVersion:
    """An open file of a version, or of a selection of it: readable until closed, even if it is
    deleted. ``version`` has the digest and the size of this file.
    """

    job_id: str
    version: Version
    manifest: Manifest
    data_offset: int
    path: Path
    file: BinaryIO

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the safetensors file from ``offset``; safe in any thread."""
        return os.pread(self.file.fileno(), length, offset)

    def read_exactly(self, offset: int, length: int) -> bytes:
        """Return as many bytes as asked for; CorruptParameters: the file was cut short."""
        number = self.version.version
        try:
            data = self.read(offset, length)
        except OSError as error:
            raise unreadable(self.job_id, number, error) from error
        if len(data) < length:
            raise corrupt(self.job_id, number, "it was cut short while it was read")
        return data

    def duplicate(self) -> OpenVersion:
        """Return the same file with a descriptor of its own, which the caller closes."""
        try:
            file = os.fdopen(os.dup(self.file.fileno()), "rb", buffering=0)
        except OSError as error:
            raise unreadable(self.job_id, self.version.version, error) from error
        return replace(self, file=file)

    def close(self) -> None:
        """Close the descriptor; later reads fail."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checked_header(manifest: Manifest) -> bytes:
    """Return the bytes in front of the data; InvalidInput for a bad manifest."""
    try:
        header = encode_header(manifest)
    except KeyError as error:
        raise InvalidInput(f"manifest: unknown dtype {error}") from error
    decode_header(header[8:], "manifest")
    for name in (*(tensor.name for tensor in manifest.tensors), *manifest.metadata):
        if not is_printable(name):  # readers list the names
            raise InvalidInput(f"manifest: the name {name[:80]!r} holds control characters")
    return header


async def write(path: Path, header: bytes, data: Chunks, expected: int) -> tuple[str, int]:
    """Write header and data to a new file, fsync it; return its SHA-256 and length.

    InvalidInput unless the data are exactly ``expected`` bytes; a ``ByteRange`` may be longer.
    """
    with create(path, buffering=0) as file:
        writer = _Writer(file)
        if isinstance(data, ByteRange):
            await in_thread(lambda: writer.copy(header, data, expected))
        else:
            await writer.take(header, _exactly(data, expected))
        await in_thread(lambda: os.fsync(file.fileno()))
    return writer.digest.hexdigest(), len(header) + expected


@final
class _Writer:
    """Writes blocks to a file and hashes them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    async def take(self, header: bytes, data: AsyncIterator[bytes]) -> None:
        """Write what arrives over the network, in blocks."""
        waiting, length = [header], len(header)
        async for chunk in data:
            waiting.append(chunk)
            length += len(chunk)
            if length >= BLOCK_BYTES:
                blocks, waiting, length = waiting, [], 0
                await in_thread(partial(self._add, blocks))
        await in_thread(partial(self._add, waiting))

    def copy(self, header: bytes, source: ByteRange, size: int) -> None:
        """Write a byte range of a file; blocks."""
        self._add([header])
        buffer = memoryview(bytearray(COPIED_AT_A_TIME))
        done = 0
        while done < size:
            part = buffer[: min(len(buffer), size - done)]
            count = os.preadv(source.descriptor, [part], source.offset + done)
            if not count:
                raise _wrong_size(done, size)
            self._add([part[:count]])
            done += count

    def _add(self, blocks: Iterable[bytes | memoryview]) -> None:
        for block in blocks:
            self.digest.update(block)
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]


async def _exactly(
    chunks: AsyncIterable[bytes] | Iterable[bytes], expected: int
) -> AsyncIterator[bytes]:
    """Yield the chunks; raise as soon as they exceed ``expected``, or fall short at the end."""
    received = 0
    async for chunk in _as_async(chunks):
        received += len(chunk)
        if received > expected:
            raise InvalidInput(f"parameters: more than the {expected} bytes of the manifest")
        yield chunk
    if received < expected:
        raise _wrong_size(received, expected)


async def _as_async(chunks: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


def _wrong_size(received: int, expected: int) -> InvalidInput:
    return InvalidInput(f"parameters: {received} of the manifest's {expected} bytes came")


def read_header(file: BinaryIO, source: str) -> tuple[Manifest, int]:
    """Return the manifest, and the offset of the data section."""
    length = header_length(os.pread(file.fileno(), 8, 0), source)
    return decode_header(os.pread(file.fileno(), length, 8), source), 8 + length


def verified_header(
    descriptor: int, version: Version, source: str
) -> tuple[Manifest, int] | None:
    """Return the header if the file has the version's digest; closes the descriptor."""
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        digest, offset = hashlib.sha256(), 0
        while block := os.pread(file.fileno(), BLOCK_BYTES, offset):
            digest.update(block)
            offset += len(block)
        same = digest.hexdigest() == version.digest
        return read_header(file, source) if same else None
