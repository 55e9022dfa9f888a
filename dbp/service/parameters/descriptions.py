"""Cache of serialized manifests of versions (answers of GetParameterInfo), within a limit."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, TypeAlias, final

from dbp.errors import ResourceExhausted
from dbp.job.snapshot import Manifest
from dbp.job.state import Version
from dbp.quantities import count_text
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.rpc.version_convert import manifest_to_proto, version_to_proto
from dbp.service.parameters.readers import ReaderThreads
from dbp.v1 import parameter_service_pb2 as pb
from dbp.versions.selection import selected, selecting_work

KEPT_BYTES: Final = 32 << 20
# Names that are looked at on the event loop; more belong into a thread.
INLINE_NAMES: Final = 10_000
_ENTRY_BYTES: Final = 1_024

_Key: TypeAlias = tuple[Version, tuple[str, ...]]


@final
class Descriptions:
    """Answers of GetParameterInfo; the least recently used are evicted first."""

    def __init__(self, threads: ReaderThreads, limit: int = KEPT_BYTES) -> None:
        self._threads = threads
        self._limit = limit
        self._size = 0
        self._answers: OrderedDict[_Key, bytes] = OrderedDict()
        self._making: dict[_Key, asyncio.Task[bytes]] = {}

    async def get(self, version: Version, stored: Manifest, patterns: Sequence[str]) -> bytes:
        """Return the serialized answer; TensorNotFound."""
        key = version, tuple(patterns)
        known = self._answers.get(key)
        if known is not None:
            self._answers.move_to_end(key)
            return known
        names = len(stored.tensors) + selecting_work(stored, patterns)
        if names <= INLINE_NAMES:
            return self._keep(key, _describe(version, stored, patterns))
        if key not in self._making:
            task = asyncio.create_task(self._make(key, stored))
            self._making[key] = task
            task.add_done_callback(lambda made: self._made(key, made))
        return await asyncio.shield(self._making[key])

    async def _make(self, key: _Key, stored: Manifest) -> bytes:
        version, patterns = key
        return self._keep(key, await self._threads.match(_describe, version, stored, patterns))

    def _made(self, key: _Key, made: asyncio.Task[bytes]) -> None:
        del self._making[key]
        _ = made.cancelled() or made.exception()  # the waiting callers have got it

    def _keep(self, key: _Key, answer: bytes) -> bytes:
        self._answers[key] = answer
        self._size += _size(key, answer)
        while self._size > self._limit:
            self._size -= _size(*self._answers.popitem(last=False))
        return answer


def _size(key: _Key, answer: bytes) -> int:
    return len(answer) + sum(map(len, key[1])) + _ENTRY_BYTES


def _describe(version: Version, stored: Manifest, patterns: Sequence[str]) -> bytes:
    manifest = selected(version, stored, patterns).manifest
    answer = pb.GetParameterInfoResponse(
        version=version_to_proto(version), manifest=manifest_to_proto(manifest)
    ).SerializeToString()
    if len(answer) > MAX_ANSWER_BYTES:
        raise ResourceExhausted(
            f"parameters: the manifest of {count_text(len(manifest.tensors), 'tensor')} takes "
            f"{len(answer):,} bytes, at most {MAX_ANSWER_BYTES:,} fit into one message; select "
            "tensors, or use StreamParameters: the header of its file has the manifest, too"
        )
    return answer
