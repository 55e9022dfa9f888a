"""AdminService: drain a service, stage its backups."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TypeAlias, final

import grpc
from google.protobuf.message import Message

from dbp.backup.staging import Staging
from dbp.jobs.manager import JobManager
from dbp.rpc.scalar_convert import job_name, time_to_proto
from dbp.storage.database import Database
from dbp.storage.threads import in_thread
from dbp.v1 import admin_service_pb2 as pb
from dbp.v1 import admin_service_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"


@final
class AdminService(admin_service_pb2_grpc.AdminServiceServicer):
    """gRPC methods for operators."""

    def __init__(self, database: Database, manager: JobManager) -> None:
        """``database``: the one of the state folder."""
        self._state = database.path.parent
        self._database = database
        self._manager = manager
        self._staging = asyncio.Lock()

    async def BeginDrain(
        self, request: pb.BeginDrainRequest, context: Context
    ) -> pb.BeginDrainResponse:
        running = self._manager.lifecycle.begin_drain(stop=not request.finish_jobs)
        return pb.BeginDrainResponse(jobs=map(job_name, running))

    async def EndDrain(
        self, request: pb.EndDrainRequest, context: Context
    ) -> pb.EndDrainResponse:
        await self._manager.lifecycle.end_drain()
        return pb.EndDrainResponse()

    async def StageBackup(
        self, request: pb.StageBackupRequest, context: Context
    ) -> pb.StageBackupResponse:
        async with self._staging, self._manager.versions.keeping_files():
            staging = await in_thread(partial(Staging, self._state))
            try:
                await in_thread(staging.link)
                create_time = time.time()
                await self._manager.history.copy_to(staging.metrics)
                await self._database.copy_to(staging.database)
                await in_thread(staging.settle)
            except BaseException:
                await in_thread(staging.remove)
                raise
        return pb.StageBackupResponse(
            folder=str(staging.folder), create_time=time_to_proto(create_time)
        )
