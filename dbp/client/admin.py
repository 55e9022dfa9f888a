"""Calls for operators of a service: drain it, stage its backups."""

from __future__ import annotations

from pathlib import Path
from typing import Self, final

from dbp.client.transport.connection import PATIENCE_SECONDS, Connection
from dbp.rpc.scalar_convert import id_from_name, time_from_proto
from dbp.v1 import admin_service_pb2 as pb
from dbp.v1.admin_service_pb2_grpc import AdminServiceStub


@final
class AdminCalls:
    """Calls of AdminService; ``async with`` closes the connection."""

    def __init__(self, address: str, *, timeout: float) -> None:
        """Prepare a connection; arguments and errors as for AsyncClient."""
        self._connection = Connection(address, timeout=timeout, patience=PATIENCE_SECONDS)
        self._stub = AdminServiceStub(self._connection.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.channel.close()

    async def begin_drain(self, *, finish_jobs: bool = False) -> list[str]:
        """Start no more jobs; ask those that run to stop, unless they are to finish.

        Return the ids of the jobs that still run.
        """
        request = pb.BeginDrainRequest(finish_jobs=finish_jobs)
        answer = await self._connection.call(self._stub.BeginDrain, request, None)
        return [id_from_name(name) for name in answer.jobs]

    async def end_drain(self) -> None:
        """Let the queued jobs start again."""
        await self._connection.call(self._stub.EndDrain, pb.EndDrainRequest(), None)

    async def stage_backup(self) -> tuple[Path, float]:
        """Stage a backup; return its folder on the service's machine, and the Unix time."""
        request = pb.StageBackupRequest()
        answer = await self._connection.call(self._stub.StageBackup, request, None)
        return Path(answer.folder), time_from_proto(answer.create_time)
