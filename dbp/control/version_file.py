"""The bytes of one parameter version: written and hashed, read, verified. Knows no jobs.

What takes long runs in a thread, off the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeAlias, final

from dbp.control.durable import fsync_folder
from dbp.errors import InvalidInput
from dbp.job.snapshot import Manifest, decode_header, encode_header, header_length
from dbp.job.state import Version

BLOCK_BYTES: Final = 1 << 20

Chunks: TypeAlias = AsyncIterable[bytes] | Iterable[bytes]


@final
@dataclass(frozen=True)
class OpenVersion:
    """A version held open: it can be read until closed, whatever is deleted meanwhile."""

    job_id: str
    version: Version
    manifest: Manifest
    data_offset: int
    path: Path
    file: BinaryIO

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the safetensors file from ``offset``; may be called from any thread."""
        return os.pread(self.file.fileno(), length, offset)

    def duplicate(self) -> OpenVersion:
        """The same, to be closed by whoever asks for it."""
        file = os.fdopen(os.dup(self.file.fileno()), "rb", buffering=0)
        return replace(self, file=file)

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checked_header(manifest: Manifest) -> bytes:
    """The bytes in front of the data; InvalidInput if the manifest makes no sense."""
    try:
        header = encode_header(manifest)
    except KeyError as error:
        raise InvalidInput(f"manifest: unknown dtype {error}") from error
    decode_header(header[8:], "manifest")
    return header


async def exactly(chunks: Chunks, expected: int) -> AsyncIterator[bytes]:
    """The chunks, refused as soon as they are more than announced, or less at their end."""
    received = 0
    async for chunk in _as_async(chunks):
        received += len(chunk)
        if received > expected:
            raise InvalidInput(f"parameters: more than the {expected} bytes of the manifest")
        yield chunk
    if received < expected:
        raise InvalidInput(f"parameters: {received} of the manifest's {expected} bytes came")


async def _as_async(chunks: Chunks) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


async def write(path: Path, header: bytes, data: AsyncIterator[bytes]) -> tuple[str, int]:
    """Write header and data to a new file, synced; returns its SHA-256 and length."""
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    size, waiting, length = 0, [header], len(header)
    with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as file:

        def flush(blocks: list[bytes], *, sync: bool) -> None:
            for block in blocks:
                digest.update(block)
                view = memoryview(block)
                while view:
                    view = view[file.write(view) :]
            if sync:
                os.fsync(file.fileno())

        async for chunk in data:
            waiting.append(chunk)
            length += len(chunk)
            if length >= BLOCK_BYTES:
                await asyncio.to_thread(flush, waiting, sync=False)
                size, waiting, length = size + length, [], 0
        await asyncio.to_thread(flush, waiting, sync=True)
    return digest.hexdigest(), size + length


def rename(source: Path, target: Path) -> None:
    """Give a synced file its name, durably."""
    source.replace(target)
    fsync_folder(target.parent)


def read_header(file: BinaryIO, source: str) -> tuple[Manifest, int]:
    """The manifest, and where the data section begins."""
    length = header_length(os.pread(file.fileno(), 8, 0), source)
    return decode_header(os.pread(file.fileno(), length, 8), source), 8 + length


async def blocks(file: BinaryIO, offset: int) -> AsyncIterator[bytes]:
    """The file from ``offset`` to its end."""
    while block := await asyncio.to_thread(os.pread, file.fileno(), BLOCK_BYTES, offset):
        offset += len(block)
        yield block


def verified_header(
    descriptor: int, version: Version, source: str
) -> tuple[Manifest, int] | None:
    """The header of a file with the version's digest, else None; closes the descriptor."""
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        digest, offset = hashlib.sha256(), 0
        while block := os.pread(file.fileno(), BLOCK_BYTES, offset):
            digest.update(block)
            offset += len(block)
        same = digest.hexdigest() == version.digest
        return read_header(file, source) if same else None
