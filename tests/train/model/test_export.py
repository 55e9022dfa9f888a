from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from dbp.errors import MissingDependency
from dbp.job.spec.resolve import resolve
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.build import build
from dbp.train.check.inspection import inspect
from dbp.train.model.export import METADATA, exported
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.run_folder import RunFolder
from dbp.train.trainer import Trainer
from tests.train.setups import document


@pytest.fixture(scope="module", params=["float32", "float64"])
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TrainedModel:
    """Return the trained model of a short run on the digits."""
    spec = document(hidden=4, classes=10, dtype=request.param, batch_size=500)
    spec["data"] |= {"scale": "standard"}
    inspected = inspect(resolve(spec))
    folder = RunFolder.prepare(tmp_path_factory.mktemp("run"), inspected.resolved.document)
    Trainer(build(inspected), SoloCommunicator(), sink=folder).run()
    return TrainedModel.load(folder.path / "parameters.safetensors")


def test_npz_holds_the_parameters_and_the_metadata_without_pickle(saved: TrainedModel) -> None:
    content = exported(saved, "npz")

    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        assert list(archive) == [*saved.parameters.views, METADATA]
        assert json.loads(str(archive[METADATA])) == dict(saved.metadata)
        for name, view in saved.parameters.views.items():
            assert archive[name].dtype == view.dtype
            np.testing.assert_array_equal(archive[name], view)
    assert exported(saved, "npz") == content


def test_safetensors_is_what_the_run_wrote(saved: TrainedModel, tmp_path: Path) -> None:
    content = exported(saved, "safetensors")

    tensors = load(content)
    assert tensors.keys() == saved.parameters.views.keys()
    for name, view in saved.parameters.views.items():
        np.testing.assert_array_equal(tensors[name], view)
    again = TrainedModel.from_bytes(content, "again")
    assert again.metadata == saved.metadata
    inputs = np.random.default_rng(1).uniform(0, 16, size=(5, 8, 8))
    np.testing.assert_array_equal(again.predict(inputs), saved.predict(inputs))


def test_without_the_package_onnx_the_error_names_the_extra(
    saved: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "dbp.train.onnx.export", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)

    with pytest.raises(MissingDependency, match=r"pip install 'dbp\[onnx\]'"):
        exported(saved, "onnx")
