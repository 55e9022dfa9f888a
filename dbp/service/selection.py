"""Some tensors of a stored version, as a safetensors file of their own, chunk by chunk.

Reading blocks: it belongs into a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, final

from dbp.control.version_file import OpenVersion
from dbp.errors import DataLoss, NotFound, alternatives
from dbp.job.snapshot import encode_header, select

CHUNK_BYTES: Final = 1 << 20


@final
class Selection:
    """The bytes of a selection; with nothing left out they are the stored file's own.

    ``digest`` is the SHA-256, in hexadecimal, of what has been read so far.
    """

    def __init__(self, opened: OpenVersion, patterns: Sequence[str]) -> None:
        """Shell patterns of tensor names, all if none; NotFound where one matches nothing."""
        _check_patterns(opened, patterns)
        self._opened = opened
        self._sha256 = hashlib.sha256()
        self.manifest = select(opened.manifest, patterns)
        self._whole = self.manifest.tensors == opened.manifest.tensors
        if self._whole:
            self._header = b""
            self.size = opened.version.size_bytes
        else:
            self._header = encode_header(self.manifest)
            self.size = len(self._header) + self.manifest.size_bytes

    @property
    def digest(self) -> str:
        """See the class."""
        return self._sha256.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes in order, once, at most CHUNK_BYTES at a time, none empty.

        Raises DataLoss at the end if a whole file is not what was published.
        """
        for start in range(0, len(self._header), CHUNK_BYTES):
            yield self._counted(self._header[start : start + CHUNK_BYTES])
        for start, length in self._ranges():
            for offset in range(start, start + length, CHUNK_BYTES):
                yield self._read(offset, min(CHUNK_BYTES, start + length - offset))
        if self._whole and self.digest != self._opened.version.digest:
            raise DataLoss(f"version {self._opened.version.version} was damaged while read")

    def _read(self, offset: int, length: int) -> bytes:
        data = self._opened.read(offset, length)
        if len(data) < length:
            raise DataLoss(f"version {self._opened.version.version} was cut short while read")
        return self._counted(data)

    def _counted(self, data: bytes) -> bytes:
        self._sha256.update(data)
        return data

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """(offset, length) in the stored file of what is wanted behind the header."""
        if self._whole:
            yield 0, self.size
            return
        stored = {tensor.name: tensor for tensor in self._opened.manifest.tensors}
        for tensor in self.manifest.tensors:
            offset = self._opened.data_offset + stored[tensor.name].offset
            yield offset, tensor.size_bytes


def _check_patterns(opened: OpenVersion, patterns: Sequence[str]) -> None:
    names = [tensor.name for tensor in opened.manifest.tensors]
    for pattern in patterns:
        if not select(opened.manifest, [pattern]).tensors:
            raise NotFound(
                f"tensors: {pattern!r} matches none{alternatives(pattern, names, 'there are')}"
            )
