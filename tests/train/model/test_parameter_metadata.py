from __future__ import annotations

import json
import math

from dbp.train.model.parameter_metadata import manifest_at, metadata_at, metadata_of
from tests.train.setups import document, make_setup, samples


def test_the_metadata_describe_model_scaling_and_metrics() -> None:
    setup = make_setup(document(dtype="float32"), samples(9))

    metadata = metadata_of(setup)
    manifest = manifest_at(setup, metadata_at(metadata, 12, {"loss": 0.5, "r2": math.nan}))

    assert metadata["dbp.job"] == "test"
    assert metadata["format"] == "pt"
    assert metadata["dbp.spec_digest"] == setup.resolved.digest
    assert json.loads(metadata["dbp.model"])["loss"]["kind"] == "softmax_cross_entropy"
    assert json.loads(metadata["dbp.input_shape"]) == [5]
    assert json.loads(metadata["dbp.scaling"]) == {"kind": "none"}
    assert manifest.metadata["dbp.step"] == "12"
    assert json.loads(manifest.metadata["dbp.metrics"]) == {"loss": 0.5}
    assert "dbp.metrics" not in metadata_at(metadata, 12, {})
    assert [(t.name, t.dtype, t.shape) for t in manifest.tensors] == [
        ("0.weight", "F32", (7, 5)),
        ("0.bias", "F32", (7,)),
        ("2.weight", "F32", (3, 7)),
        ("2.bias", "F32", (3,)),
    ]
