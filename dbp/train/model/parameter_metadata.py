"""Build metadata and manifest of a parameter file: model, scaling, classes, metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from dbp.job.snapshot import ROLLBACKS, Manifest, manifest_of
from dbp.train.build import Setup
from dbp.train.model.columns import columns_metadata

SAFETENSORS_DTYPES: Final = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}


def metadata_of(setup: Setup) -> dict[str, str]:
    """Return the metadata of a run's parameter files, without the step."""
    spec = setup.resolved.spec
    metadata = {
        "format": "pt",
        "dbp.job": spec.name,
        "dbp.spec_digest": setup.resolved.digest,
        "dbp.model": json.dumps(setup.resolved.document["model"], separators=(",", ":")),
        "dbp.input_shape": json.dumps(list(setup.model.input_shape)),
        "dbp.scaling": setup.scaling.to_json(),
    }
    if setup.class_names:
        metadata["dbp.classes"] = json.dumps(list(setup.class_names), ensure_ascii=False)
    return metadata | columns_metadata(setup.train.info)


def metadata_at(
    metadata: Mapping[str, str], step: int, metrics: Mapping[str, float]
) -> dict[str, str]:
    """Return the metadata of the parameters after this step, with their metrics.

    ``metrics`` that are NaN or infinite are left out, since JSON cannot represent them.
    """
    strings = {**metadata, "dbp.step": str(step)}
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    if finite:
        strings["dbp.metrics"] = json.dumps(finite, separators=(",", ":"))
    return strings


def manifest_at(setup: Setup, metadata: Mapping[str, str], rollbacks: int = 0) -> Manifest:
    """Return the manifest of parameters with this metadata, after ``rollbacks`` roll-backs."""
    dtype = SAFETENSORS_DTYPES[np.dtype(setup.model.dtype)]
    strings = dict(metadata)
    if rollbacks:
        strings[ROLLBACKS] = str(rollbacks)
    return manifest_of(setup.model.tensor_shapes, dtype, strings)
