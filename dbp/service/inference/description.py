"""Describe a model in the inference protocol: metadata and configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dbp.inference import open_inference_pb2 as pb
from dbp.service.inference.signature import Signature, TensorSpec

PLATFORM: Final = "dbp"

_TYPES: Final = {
    "FP32": pb.TYPE_FP32,
    "FP64": pb.TYPE_FP64,
    "INT64": pb.TYPE_INT64,
    "BYTES": pb.TYPE_STRING,
}


def metadata_of(
    name: str, signature: Signature, versions: Iterable[int]
) -> pb.ModelMetadataResponse:
    """Return inputs, outputs, and the versions that are kept."""
    return pb.ModelMetadataResponse(
        name=name,
        versions=[str(number) for number in versions],
        platform=PLATFORM,
        inputs=[_metadata(signature.inputs)],
        outputs=[_metadata(spec) for spec in signature.outputs],
    )


def config_of(name: str, signature: Signature) -> pb.ModelConfig:
    """Return the model in Triton's form: shapes are those of one row."""
    return pb.ModelConfig(
        name=name,
        platform=PLATFORM,
        backend=PLATFORM,
        version_policy=pb.ModelVersionPolicy(all=pb.ModelVersionPolicy.All()),
        max_batch_size=signature.max_rows,
        input=[
            pb.ModelInput(
                name=signature.inputs.name,
                data_type=_TYPES[signature.inputs.datatype],
                dims=signature.inputs.row_shape,
            )
        ],
        output=[
            pb.ModelOutput(
                name=spec.name, data_type=_TYPES[spec.datatype], dims=spec.row_shape or (1,)
            )
            for spec in signature.outputs
        ],
    )


def _metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=(-1, *spec.row_shape)
    )
