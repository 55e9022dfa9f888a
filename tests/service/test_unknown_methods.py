"""A call of an unknown method is refused with the method to call instead."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from dbp.errors import UnknownMethod
from dbp.inference import open_inference_pb2
from dbp.rpc.status import error_from_rpc
from dbp.service.unknown_methods import INSTEAD
from tests.service.setups import Service, refused

SERVICE = "inference.GRPCInferenceService"
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


def methods(module: object) -> set[str]:
    descriptor = module.DESCRIPTOR.services_by_name["GRPCInferenceService"]  # type: ignore[attr-defined]
    return {method.name for method in descriptor.methods}


async def called(service: Service, path: str) -> str:
    """The text of the refusal of a unary call with some bytes."""
    method: Any = service.channel.unary_unary(path)
    return await refused(method(b"\x0a\x01x"), UNIMPLEMENTED)


def test_every_method_that_triton_has_and_dbp_lacks_has_a_text() -> None:
    assert set(INSTEAD) == methods(service_pb2) - methods(open_inference_pb2)


@pytest.mark.parametrize("method", sorted(INSTEAD))
async def test_a_method_of_triton_names_what_to_use_instead(
    service: Service, method: str
) -> None:
    text = await called(service, f"/{SERVICE}/{method}")

    assert text.startswith(f"{SERVICE}/{method} is not implemented by dbp; {INSTEAD[method]}")
    assert "(this is dbp 0.1.0)" in text


async def test_tritons_client_shows_it(service: Service) -> None:
    async with triton_aio.InferenceServerClient(service.socket) as client:
        with pytest.raises(InferenceServerException, match="dbp params label JOB LABEL"):
            await client.load_model("digits")


async def test_a_stream_of_requests_is_refused_as_well(service: Service) -> None:
    method: Any = service.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")

    # Nothing is sent: gRPC reports INTERNAL where it writes to a call that has just ended.
    text = await refused(method().read(), UNIMPLEMENTED)

    assert "call ModelInfer once a request" in text


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        (
            "/dbp.v1.JobService/ListJob",
            ["dbp.v1.JobService has no method 'ListJob', did you mean 'ListJobs'? methods: "],
        ),
        (
            "/dbp.v1.JobService/StopJob",
            ["has no method 'StopJob'", "CancelJob, PauseJob", "StreamLogs"],
        ),
        (
            "/dbp.v1.JobServices/ListJobs",
            ["no service 'dbp.v1.JobServices' here", "did you mean 'dbp.v1.JobService'?"],
        ),
        (
            "/dbp.v2.Something/Else",
            ["services: dbp.v1.AccessService, dbp.v1.AdminService, dbp.v1.JobService"],
        ),
        (
            "/tensorflow.serving.PredictionService/Predict",
            ["use inference.GRPCInferenceService/ModelInfer"],
        ),
        ("/dbp.v1.WorkerService/Detach", ["no method 'Detach', did you mean 'Attach'?"]),
        ("/ListJobs", ["no service '' here"]),
        ("/dbp.v1.JobService/" + "x" * 5_000, ["has no method 'xxx"]),
    ],
)  # fmt: skip
async def test_a_misspelled_name_gets_the_nearest_and_all_there_are(
    service: Service, path: str, texts: list[str]
) -> None:
    text = await called(service, path)

    assert all(part in text for part in texts), text


async def test_the_client_raises_an_error_of_its_own(service: Service) -> None:
    method: Any = service.channel.unary_unary("/dbp.v1.JobService/ListJob")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"")

    error = error_from_rpc(caught.value)

    assert isinstance(error, UnknownMethod)
    assert "did you mean 'ListJobs'" in str(error)
