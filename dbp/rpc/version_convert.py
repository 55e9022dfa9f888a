"""Convert parameter versions, their manifests and labels to protos and back."""

from __future__ import annotations

from dbp.job.snapshot import Manifest, TensorInfo
from dbp.job.state import LabelMove, Version, VersionEntry
from dbp.rpc.scalar_convert import time_from_proto, time_to_proto
from dbp.v1 import job_pb2, parameter_pb2, parameter_service_pb2


def version_to_proto(version: Version) -> job_pb2.ParameterVersion:
    """Convert a parameter version to its proto."""
    return job_pb2.ParameterVersion(
        version=version.version,
        step=version.step,
        attempt=version.attempt,
        digest=version.digest,
        size_bytes=version.size_bytes,
        publish_time=time_to_proto(version.publish_time),
        final=version.final,
        previous_digest=version.previous_digest,
        spec_digest=version.spec_digest,
        rollbacks=version.rollbacks,
    )


def version_from_proto(proto: job_pb2.ParameterVersion) -> Version:
    """Convert a proto to a parameter version."""
    return Version(
        version=proto.version,
        step=proto.step,
        attempt=proto.attempt,
        digest=proto.digest,
        size_bytes=proto.size_bytes,
        publish_time=time_from_proto(proto.publish_time),
        final=proto.final,
        previous_digest=proto.previous_digest,
        spec_digest=proto.spec_digest,
        rollbacks=proto.rollbacks,
    )


def version_entry_to_proto(entry: VersionEntry) -> parameter_service_pb2.VersionEntry:
    """Convert an entry of a job's version history to its proto."""
    return parameter_service_pb2.VersionEntry(
        version=version_to_proto(entry.version),
        kept=entry.kept,
        pinned=entry.pinned,
        labels=entry.labels,
        left_by=entry.left_by,
    )


def version_entry_from_proto(proto: parameter_service_pb2.VersionEntry) -> VersionEntry:
    """Convert a proto to an entry of a job's version history."""
    version = version_from_proto(proto.version)
    labels, left_by = tuple(proto.labels), tuple(proto.left_by)
    return VersionEntry(version, proto.kept, proto.pinned, labels, left_by)


def label_to_proto(move: LabelMove) -> parameter_service_pb2.Label:
    """Convert a label with its last move to its proto."""
    return parameter_service_pb2.Label(
        name=move.label,
        version=move.version,
        move_time=time_to_proto(move.time),
        previous_version=move.previous,
    )


def label_from_proto(proto: parameter_service_pb2.Label) -> LabelMove:
    """Convert a proto to a label with its last move."""
    time = time_from_proto(proto.move_time)
    return LabelMove(proto.name, proto.version, time, proto.previous_version)


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
