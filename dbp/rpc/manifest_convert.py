"""Convert manifests of parameter files to protos and back."""

from __future__ import annotations

from dbp.job.snapshot import Manifest, TensorInfo
from dbp.v1 import parameter_pb2


def manifest_to_proto(manifest: Manifest) -> parameter_pb2.Manifest:
    """Convert a safetensors manifest to its proto."""
    proto = parameter_pb2.Manifest(metadata=dict(manifest.metadata))
    for tensor in manifest.tensors:
        proto.tensors.add(
            name=tensor.name,
            dtype=tensor.dtype,
            shape=tensor.shape,
            offset=tensor.offset,
            size_bytes=tensor.size_bytes,
        )
    return proto


def manifest_from_proto(proto: parameter_pb2.Manifest) -> Manifest:
    """Convert a proto to a safetensors manifest."""
    tensors = tuple(
        TensorInfo(tensor.name, tensor.dtype, tuple(tensor.shape), tensor.offset)
        for tensor in proto.tensors
    )
    return Manifest(tensors, dict(proto.metadata))
