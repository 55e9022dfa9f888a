"""Some tensors of a stored version, as a safetensors file of their own, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, final

from dbp.control.version_file import OpenVersion
from dbp.job.snapshot import encode_header, select

CHUNK_BYTES: Final = 1 << 20


@final
class Selection:
    """The bytes of a selection; with nothing left out they are the stored file's own."""

    def __init__(self, opened: OpenVersion, patterns: Sequence[str]) -> None:
        self._opened = opened
        self.manifest = select(opened.manifest, patterns)
        self._whole = self.manifest.tensors == opened.manifest.tensors
        if self._whole:
            self._header = b""
            self.size = opened.version.size_bytes
        else:
            self._header = encode_header(self.manifest)
            self.size = len(self._header) + self.manifest.size_bytes

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes in order, at most CHUNK_BYTES at a time, none empty."""
        for start in range(0, len(self._header), CHUNK_BYTES):
            yield self._header[start : start + CHUNK_BYTES]
        for start, length in self._ranges():
            for offset in range(start, start + length, CHUNK_BYTES):
                yield self._opened.read(offset, min(CHUNK_BYTES, start + length - offset))

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """(offset, length) in the stored file of what is wanted behind the header."""
        if self._whole:
            yield 0, self.size
            return
        stored = {tensor.name: tensor for tensor in self._opened.manifest.tensors}
        for tensor in self.manifest.tensors:
            offset = self._opened.data_offset + stored[tensor.name].offset
            yield offset, tensor.size_bytes
