"""A service as a whole: store, launcher, manager, gRPC services, callers and listeners."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dbp.backup.backup_lock import remove_left
from dbp.errors import InvalidInput, StateGone
from dbp.inference import open_inference_pb2
from dbp.jobs.checks import Check
from dbp.jobs.manager import JobManager
from dbp.jobs.record_mirror import RecordMirror
from dbp.jobs.recovery import RecoveryReport, recover
from dbp.jobs.store import Store
from dbp.launch.launcher import Launcher
from dbp.registry import find_kinds
from dbp.rpc.channel import SERVER_OPTIONS
from dbp.service.access_service import AccessService
from dbp.service.admin_service import AdminService
from dbp.service.callers import Callers, open_callers
from dbp.service.check_pool import CheckPool
from dbp.service.config import ServerConfig
from dbp.service.guarded_server import GuardedServer
from dbp.service.inference.loaded_models import LoadedModels
from dbp.service.inference.service import SERVICE_NAME as INFERENCE
from dbp.service.inference.service import InferenceService, add_to_server
from dbp.service.job_access import JobAccess
from dbp.service.job_service import JobService
from dbp.service.listening import bind, check_host, open_places
from dbp.service.open_files import CONNECTIONS, max_connections
from dbp.service.parameters import service as parameter_service
from dbp.service.parameters.service import ParameterService
from dbp.service.reflection import add_reflection
from dbp.service.unknown_methods import UnknownMethods
from dbp.service.worker_service import WorkerService
from dbp.storage.database import Database
from dbp.storage.state_folder import StateFolder
from dbp.v1 import (
    access_service_pb2,
    admin_service_pb2,
    job_service_pb2,
    parameter_service_pb2,
    worker_service_pb2,
)
from dbp.v1.access_service_pb2_grpc import add_AccessServiceServicer_to_server
from dbp.v1.admin_service_pb2_grpc import add_AdminServiceServicer_to_server
from dbp.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from dbp.v1.worker_service_pb2_grpc import add_WorkerServiceServicer_to_server

DRAIN_SECONDS: Final = 5.0
# Seconds between two checks that the state folder exists; calls check it, too.
PRESENT_SECONDS: Final = 1.0
PUBLIC_FILES: Final = (
    access_service_pb2.DESCRIPTOR,
    admin_service_pb2.DESCRIPTOR,
    job_service_pb2.DESCRIPTOR,
    parameter_service_pb2.DESCRIPTOR,
    open_inference_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
)
PUBLIC_SERVICES: Final = (
    job_service_pb2.DESCRIPTOR.services_by_name["JobService"].full_name,
    parameter_service_pb2.DESCRIPTOR.services_by_name["ParameterService"].full_name,
    INFERENCE,
    access_service_pb2.DESCRIPTOR.services_by_name["AccessService"].full_name,
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
)

# Called with the report of a recovery; None: the database was not damaged.
Recovered: TypeAlias = Callable[[RecoveryReport | None], None]

log = logging.getLogger("dbp.service")


@contextlib.asynccontextmanager
async def running(
    config: ServerConfig,
    *,
    launcher: Launcher,
    check: Check,
    check_run: Check | None = None,
    recovered: Recovered | None = None,
    gone: Callable[[StateGone], None] = lambda _: None,
    on_reload: Callable[[Callable[[], None]], None] = lambda _: None,
) -> AsyncIterator[str]:
    """Run a service while the context lasts; yield its address (on TCP, if it has one).

    ``recovered``: rebuild the database first if it is damaged, and call this with the report;
    None: refuse a damaged one with StateDamaged. ``gone`` is called when the state folder was
    deleted or replaced; from then on every call is refused. ``on_reload`` is given a function
    that reads tokens and certificates again. InvalidInput for a host beyond this
    machine or a folder that is not private; Conflict for a folder or a port in use. Nothing is
    left started then.
    """
    check_host(config)
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(_state_folder(config.state))
        if recovered is not None:
            recovered(await asyncio.to_thread(recover, folder))
        database = stack.enter_context(contextlib.closing(_database(folder)))
        pool = CheckPool(config.data_roots)
        manager = JobManager(
            folder, Store(database), launcher=launcher, check=check, check_run=check_run,
            check_apart=pool.check, config=config.manager,
        )  # fmt: skip
        callers = stack.enter_context(open_callers(folder.access_folder, config))
        server = await _new_server()
        methods = GuardedServer(server, callers.gate, folder.check_present)
        access = JobAccess(manager.get, manager.lifecycle.get_deleted)
        parameters = ParameterService(
            manager.versions,
            manager.parameters,
            access,
            heartbeat_seconds=config.manager.heartbeat_seconds,
        )
        stack.callback(parameters.close)
        inference = InferenceService(manager, LoadedModels(manager.versions), access)
        stack.push_async_callback(inference.close)
        places = stack.enter_context(open_places(folder.path))
        stack.push_async_callback(server.stop, DRAIN_SECONDS)
        _add_services(methods, callers, manager, access, database)
        parameter_service.add_to_server(parameters, methods)
        add_to_server(inference, methods)
        status = _add_health(methods)
        server.add_generic_rpc_handlers((UnknownMethods(_methods(), callers.gate),))
        addresses = bind(server, places, config, callers.tokens.owner_file, callers.credentials)
        # Runs in reverse: report not serving, end the streams (draining), finish calls.
        stack.push_async_callback(manager.close)
        stack.callback(pool.close)
        await manager.start()
        await server.start()
        stack.callback(inference.drain)
        stack.push_async_callback(
            _set_status, status, health_pb2.HealthCheckResponse.NOT_SERVING
        )
        folder.announce(addresses.shown, addresses.socket)
        await _set_status(status, health_pb2.HealthCheckResponse.SERVING)
        on_reload(callers.reload)
        watching = asyncio.create_task(_until_gone(folder, gone))
        stack.callback(watching.cancel)
        yield addresses.shown


async def _new_server() -> grpc.aio.Server:
    """Return a server without methods, and prepare for times without files to open."""
    await asyncio.to_thread(find_kinds)
    limit = (CONNECTIONS, max_connections())
    return grpc.aio.server(options=(*SERVER_OPTIONS, limit))


async def _until_gone(folder: StateFolder, gone: Callable[[StateGone], None]) -> None:
    """Call ``gone`` once the folder was deleted or replaced."""
    while True:
        try:
            folder.check_present()
        except StateGone as error:
            log.error("%s", error)
            gone(error)
            return
        await asyncio.sleep(PRESENT_SECONDS)


def _state_folder(path: Path) -> StateFolder:
    try:
        folder = StateFolder(path)
    except OSError as error:
        raise InvalidInput(
            f"{path}: cannot be the state folder: {error.strerror or error}; choose another "
            "with --state"
        ) from error
    try:
        remove_left(folder.path)
    except OSError as error:
        log.warning("%s: files of a backup that was cut stay: %s", folder.path, error)
    return folder


def _database(folder: StateFolder) -> Database:
    return Database(
        folder.database_file,
        RecordMirror(folder),
        ballast=folder.ballast,
        check_present=folder.check_present,
    )


def _add_services(
    server: GuardedServer,
    callers: Callers,
    manager: JobManager,
    access: JobAccess,
    database: Database,
) -> None:
    add_AccessServiceServicer_to_server(AccessService(callers.tokens, callers.gate), server)
    add_AdminServiceServicer_to_server(AdminService(database, manager), server)
    add_JobServiceServicer_to_server(JobService(manager, access), server)
    add_WorkerServiceServicer_to_server(WorkerService(manager), server)


def _add_health(server: GuardedServer) -> health.aio.HealthServicer:
    """Add health, which is returned, and reflection."""
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    add_reflection(server, (*PUBLIC_SERVICES, health.SERVICE_NAME), PUBLIC_FILES)
    return status


def _methods() -> dict[str, list[str]]:
    """Return the methods of each service by its full name."""
    files = (*PUBLIC_FILES, worker_service_pb2.DESCRIPTOR)
    services = [s for file in files for s in file.services_by_name.values()]
    return {s.full_name: [method.name for method in s.methods] for s in services}


async def _set_status(status: health.aio.HealthServicer, value: int) -> None:
    for service in ("", *PUBLIC_SERVICES):
        await status.set(service, value)
