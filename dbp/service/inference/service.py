"""GRPCInferenceService: the Open Inference Protocol over the parameters of jobs.

Small requests are computed on the event loop, because a thread costs more than they do; others
in threads. Every answer comes from one version.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as package_version
from typing import Any, Final, TypeAlias, final

import grpc
from google.protobuf.message import Message

from dbp.errors import DataLoss, DbpError, NotFound, OutOfRange, ResourceExhausted, WrongState
from dbp.inference import open_inference_pb2 as pb
from dbp.inference import open_inference_pb2_grpc
from dbp.jobs.manager import JobManager
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.service.guarded_server import GuardedServer
from dbp.service.inference.answers import Times, answer, rows_of
from dbp.service.inference.description import config_of, metadata_of
from dbp.service.inference.loaded_models import LoadedModels
from dbp.service.inference.model_loading import LoadedModel
from dbp.service.inference.model_names import ModelNames
from dbp.service.inference.statistics import InferenceStatistics
from dbp.service.job_access import JobAccess, visible

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE_NAME: Final[str] = _SERVICE.full_name
EXTENSIONS: Final = ("model_configuration", "statistics")

INLINE_SECONDS: Final = 0.001
THREADS: Final = 2
MAX_WAITING: Final = 64
INDEX_PAGE: Final = 100


def add_to_server(service: InferenceService, server: GuardedServer) -> None:
    """Register all methods; answers of ModelInfer are bytes already."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in _SERVICE.methods:
        answer_type = getattr(pb, method.output_type.name)
        serialized = answer_type is pb.ModelInferResponse
        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            getattr(service, method.name),
            request_deserializer=getattr(pb, method.input_type.name).FromString,
            response_serializer=None if serialized else answer_type.SerializeToString,
        )
    server.add_service(SERVICE_NAME, handlers)


@final
class InferenceService(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers from published parameters; never waits for a run or disturbs one."""

    def __init__(self, manager: JobManager, models: LoadedModels, access: JobAccess) -> None:
        self._manager = manager
        self._access = access
        self._models = models
        self._names = ModelNames(manager.parameters, access)
        self._statistics = InferenceStatistics()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="infer")
        self._waiting = 0
        self._draining = False

    def drain(self) -> None:
        """Report not ready; requests are still answered."""
        self._draining = True

    async def close(self) -> None:
        """Stop loading models; call it after the last request."""
        await self._models.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: Context
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=not self._draining)

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        try:
            await self._model(request.name, request.version)
        except (DataLoss, NotFound, OutOfRange, WrongState):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._draining)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name="dbp", version=package_version("dbp"), extensions=EXTENSIONS
        )

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        model = await self._model(request.name, request.version)
        kept = await self._manager.parameters.kept(model.job_id)
        return metadata_of(request.name, model.signature, kept)

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: Context
    ) -> pb.ModelConfigResponse:
        model = await self._model(request.name, request.version)
        return pb.ModelConfigResponse(config=config_of(request.name, model.signature))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        if not request.name:
            found = [
                figures
                for figures in self._statistics.figures()
                if await self._access.sees(figures.name)
            ]
            return pb.ModelStatisticsResponse(model_stats=found)
        job_id, at = await self._names.find(request.name, request.version)
        figures = self._statistics.figures(job_id, at.version, name=request.name)
        return pb.ModelStatisticsResponse(model_stats=figures)

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        response = pb.RepositoryIndexResponse()
        token = ""
        while True:
            jobs, token = await self._manager.list((), INDEX_PAGE, token, wanted=visible)
            for job in jobs:
                if job.latest_parameters is not None:
                    number = str(job.latest_parameters.version)
                    response.models.add(name=job.id, version=number, state="READY")
                elif not request.ready:
                    reason = "no parameters are published yet"
                    response.models.add(name=job.id, state="UNAVAILABLE", reason=reason)
            if response.ByteSize() > MAX_ANSWER_BYTES:
                raise ResourceExhausted(
                    "RepositoryIndex: this service has more jobs than one message can list; "
                    "use dbp.v1.JobService/ListJobs, which returns them in pages"
                )
            if not token:
                return response
            await asyncio.sleep(0)  # others come in between

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> bytes:
        """Return the serialized response."""
        begin = time.perf_counter_ns()
        job_id, at = await self._names.find(request.model_name, request.model_version)
        model = await self._models.ready(job_id, at) or await self._models.get(job_id, at)
        number = model.version.version
        try:
            rows = rows_of(request, model.signature)
            response, took = await self._answer(request, model, rows)
        except DbpError:
            self._statistics.failed(job_id, number, time.perf_counter_ns() - begin)
            raise
        all_ns = time.perf_counter_ns() - begin
        self._statistics.succeeded(job_id, number, rows, took, all_ns)
        return response

    async def _answer(
        self, request: pb.ModelInferRequest, model: LoadedModel, rows: int
    ) -> tuple[bytes, Times]:
        if model.cost.seconds(rows) <= INLINE_SECONDS:
            return answer(request, model.saved, model.signature, model.heads)
        if self._waiting >= MAX_WAITING:
            raise ResourceExhausted(
                f"{self._waiting} large requests wait already; try again, or with fewer rows"
            )
        self._waiting += 1
        try:
            await model.turn.acquire()
            future = asyncio.get_running_loop().run_in_executor(
                self._threads, answer, request, model.apart, model.signature, model.heads
            )
            # The thread continues, and keeps its turn, even if the caller has gone.
            future.add_done_callback(lambda _: model.turn.release())
            return await asyncio.shield(future)
        finally:
            self._waiting -= 1

    async def _model(self, name: str, version: str) -> LoadedModel:
        return await self._models.get(*await self._names.find(name, version))
