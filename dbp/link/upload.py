"""Upload parameter versions from the link to the service.

Over its Unix socket the service reads them directly from rank 0's shared memory; where it
cannot, and answers so, and over TCP, their bytes are sent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, final

import grpc

from dbp.errors import Unavailable
from dbp.link.messages import FilledSlot
from dbp.link.outgoing import Outgoing
from dbp.rpc.attempt_secret import ATTEMPT_SECRET, write_mark
from dbp.rpc.bearer_channel import BearerChannel
from dbp.rpc.channel import connect
from dbp.rpc.scalar_convert import job_name
from dbp.rpc.status import is_transient
from dbp.rpc.version_convert import manifest_to_proto
from dbp.v1 import worker_service_pb2 as pb
from dbp.v1.worker_service_pb2_grpc import WorkerServiceStub

CHUNK_BYTES: Final = 1 << 20
PUBLISH_SECONDS: Final = 300.0
MAX_FAILURES: Final = 10  # of the service with one version; half a minute


@final
class Publisher:
    """Uploads versions of one attempt; keeps one channel while it works."""

    def __init__(
        self,
        address: Callable[[], str],
        memory_fd: int,
        *,
        job: str,
        attempt: int,
        generation: int,
        secret: str,
    ) -> None:
        """Store the configuration.

        Args:
            address: returns the service's address now; raises Unavailable if it has none.
            generation: number of this link within the attempt.
            secret: that of the attempt.
        """
        self._address = address
        self._memory_fd = memory_fd
        self._memory_name = _memory_name(memory_fd)
        self._job = job
        self._attempt = attempt
        self._generation = generation
        self._secret = secret
        self._channel: tuple[str, BearerChannel] | None = None  # and where it leads
        self._failures = 0  # with this version

    async def publish(self, filled: FilledSlot) -> bool:
        """Upload one version; True when it is durable, or was refused for good."""
        try:
            try:
                await self._send(filled)
            except grpc.aio.AioRpcError as error:
                if (
                    not self._memory_name
                    or error.code() is not grpc.StatusCode.INVALID_ARGUMENT
                ):
                    raise
                self._memory_name = ""  # the service cannot see it
                await self._send(filled)
        except Unavailable:
            return False
        except grpc.aio.AioRpcError as error:
            if is_transient(error) or self._should_retry(filled, error):
                await self.close()
                return False
            write_log(f"step {filled.step} was not published: {error.details()}")
        self._failures = 0
        return True

    def _should_retry(self, filled: FilledSlot, error: grpc.aio.AioRpcError) -> bool:
        """Whether to retry INTERNAL errors: for final and best versions only, a bounded number
        of times, so that one bad version cannot block the queue.
        """
        if error.code() is not grpc.StatusCode.INTERNAL:
            return False
        self._failures += 1
        return (filled.final or filled.best) and self._failures <= MAX_FAILURES

    async def _send(self, filled: FilledSlot) -> None:
        address = self._address()
        if self._channel is None or self._channel[0] != address:
            await self.close()
            self._channel = address, connect(address)
        channel = self._channel[1]
        parts = Outgoing(self._parts(filled, self._memory_name if channel.is_local else ""))
        call = WorkerServiceStub(channel).PublishParameters(
            parts, metadata=((ATTEMPT_SECRET, self._secret),), timeout=PUBLISH_SECONDS
        )
        with parts.raising():
            await call

    async def close(self) -> None:
        """Close the channel; the next version opens another."""
        if self._channel is not None:
            _, channel = self._channel
            self._channel = None
            await channel.close()

    async def _parts(
        self, filled: FilledSlot, memory_name: str
    ) -> AsyncIterator[pb.PublishParametersRequest]:
        header = pb.PublishHeader(
            job=job_name(self._job),
            attempt=self._attempt,
            step=filled.step,
            manifest=manifest_to_proto(filled.manifest),
            final=filled.final,
            best=filled.best,
            link_generation=self._generation,
        )
        size = filled.manifest.size_bytes
        start = filled.slot * size
        if memory_name:
            write_mark(self._memory_fd, self._secret)
            header.memory.pid, header.memory.descriptor = os.getpid(), self._memory_fd
            header.memory.name, header.memory.offset = memory_name, start
        yield pb.PublishParametersRequest(header=header)
        if memory_name:
            return
        for offset in range(0, size, CHUNK_BYTES):
            length = min(CHUNK_BYTES, size - offset)
            yield pb.PublishParametersRequest(
                data=os.pread(self._memory_fd, length, start + offset)
            )


def write_log(text: str) -> None:
    """Write one line to the run's log."""
    sys.stderr.write(f"dbp link: {text}\n")
    sys.stderr.flush()


def _memory_name(descriptor: int) -> str:
    """Return the system's name of the memory; "" if other processes cannot open it by that."""
    try:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""
    return name if name.startswith("/memfd:") else ""
