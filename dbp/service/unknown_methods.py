"""Refuse calls of unknown methods; the error names the method to call instead.

gRPC itself says only "Method not found!". For a method of Triton that dbp does not implement,
the error names the method or command of dbp that does the same; for a misspelled name, the
nearest one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, TypeAlias, final

import grpc
from google.protobuf.message import Message

from dbp.errors import DbpError, Unauthenticated, UnknownMethod, alternatives
from dbp.rpc.status import code_of, details_of, text_of
from dbp.service.gate import Gate

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

INFERENCE: Final = "inference.GRPCInferenceService"

_LABELS: Final = (
    "every job with published parameters is loaded when it is first asked for; move a label "
    "with dbp.v1.ParameterService/MoveLabel (dbp params label JOB LABEL VERSION) to choose the "
    "version that JOB@LABEL answers from"
)
_IN_MESSAGE: Final = (
    "send tensors in ModelInferRequest.raw_input_contents; shared memory is not supported"
)

# Replacements for methods of Triton.
INSTEAD: Final[Mapping[str, str]] = {
    "ModelStreamInfer": "call ModelInfer once a request; many may be open on one connection",
    "RepositoryModelLoad": _LABELS,
    "RepositoryModelUnload": _LABELS,
    "SystemSharedMemoryStatus": _IN_MESSAGE,
    "SystemSharedMemoryRegister": _IN_MESSAGE,
    "SystemSharedMemoryUnregister": _IN_MESSAGE,
    "CudaSharedMemoryStatus": _IN_MESSAGE,
    "CudaSharedMemoryRegister": _IN_MESSAGE,
    "CudaSharedMemoryUnregister": _IN_MESSAGE,
    "TraceSetting": "ModelStatistics returns counts and times of a model's requests",
    "LogSettings": "choose the level of the log when the service starts: dbp serve --log-level",
}

# What other model servers call their services.
ELSEWHERE: Final[Mapping[str, str]] = {
    "tensorflow.serving.PredictionService": f"{INFERENCE}/ModelInfer",
    "tensorflow.serving.ModelService": f"{INFERENCE}/ModelReady",
    "org.pytorch.serve.grpc.inference.InferenceAPIsService": f"{INFERENCE}/ModelInfer",
}


@final
class UnknownMethods(grpc.GenericRpcHandler):
    """Refuse every call that no service took; register it after all of them."""

    def __init__(self, services: Mapping[str, Sequence[str]], gate: Gate) -> None:
        """Store the configuration.

        Args:
            services: The methods of each service, by the service's full name.
            gate: Authenticates callers: others learn nothing.
        """
        self._services = services
        self._gate = gate

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return a handler that takes any request, one message or a stream of them."""
        unknown = UnknownMethod(self.text(handler_call_details.method))

        async def refuse(requests: AsyncIterator[bytes], context: Context) -> None:
            error: DbpError = unknown
            try:
                self._gate.identify(context)
            except Unauthenticated as refused:
                error = refused
            await context.abort(code_of(error), text_of(error), details_of(error))

        return grpc.stream_stream_rpc_method_handler(refuse)

    def text(self, path: str) -> str:
        """Return the text that names the method to call instead of ``/SERVICE/METHOD``."""
        service, _, method = path[:400].removeprefix("/").rpartition("/")
        here = f"this is dbp {version('dbp')}"
        if service == INFERENCE and method in INSTEAD:
            return f"{service}/{method} is not implemented by dbp; {INSTEAD[method]} ({here})"
        if service in self._services:
            known = self._services[service]
            hint = alternatives(method, known, "methods")
            return f"{service} has no method {method!r}{hint} ({here})"
        if service in ELSEWHERE:
            return f"there is no service {service} here; use {ELSEWHERE[service]} ({here})"
        hint = alternatives(service, tuple(self._services), "services")
        return f"there is no service {service!r} here{hint} ({here})"
