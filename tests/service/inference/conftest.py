"""A service with one run, and clients of its inference protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import tritonclient.grpc.aio as triton_aio

from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.service.setups import Run, Service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[triton_aio.InferenceServerClient]:
    async with triton_aio.InferenceServerClient(service.socket) as client:
        yield client


@pytest.fixture
def stub(service: Service) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(service.channel)


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start()
