"""Server reflection: describe the public services to tools such as grpcurl and buf curl.

grpcio-reflection speaks grpc.reflection.v1alpha alone. Version 1 has the same messages under
another package name, so one servicer answers under both names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from dbp.service.guarded_server import GuardedServer

ALPHA: Final[str] = reflection.SERVICE_NAME
V1: Final = ALPHA.replace("v1alpha", "v1")
SERVICES: Final = (V1, ALPHA)


def add_reflection(
    server: GuardedServer, services: Sequence[str], files: Iterable[FileDescriptor]
) -> None:
    """Register both versions; ``files`` define the services that clients may see."""
    pool = DescriptorPool()
    added: set[str] = set()
    for file in (*files, reflection_pb2.DESCRIPTOR):
        _add(pool, file, added)
    pool.Add(_v1_file())
    servicer = reflection.aio.ReflectionServicer((*services, *SERVICES), pool=pool)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_service(V1, {"ServerReflectionInfo": handler})


def _add(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    """Add a copy of a file after those it imports; inference has a pool of its own."""
    if file.name in added:
        return
    for dependency in file.dependencies:
        _add(pool, dependency, added)
    pool.AddSerializedFile(file.serialized_pb)
    added.add(file.name)


def _v1_file() -> FileDescriptorProto:
    """Return grpc/reflection/v1/reflection.proto: the alpha file under its later name."""
    alpha = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    file = text_format.Parse(text, FileDescriptorProto())
    file.name = "grpc/reflection/v1/reflection.proto"
    file.options.ClearField("deprecated")
    return file
