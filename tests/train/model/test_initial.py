"""Runs that start from a file, and files that a run cannot start from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dbp.errors import DbpError, InvalidFile, InvalidSpec
from dbp.job.spec.load import resolve_file
from dbp.job.spec.resolve import resolve
from dbp.parallel.communicator import SoloCommunicator
from dbp.parallel.threads import run_threads
from dbp.train.build import Setup, build
from dbp.train.check.inspection import inspect
from dbp.train.model.initial import load_initial
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.run_folder import RunFolder
from dbp.train.trainer import Trainer
from tests.train.setups import document

SHAPES = {"0.weight": (3, 2), "0.bias": (3,), "1.running_mean": (3,)}


def tensors(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    draw = torch.randn
    named = {name: draw(*shape, generator=generator) for name, shape in SHAPES.items()}
    return {name: tensor.to(dtype) for name, tensor in named.items()}


def saved(path: Path, named: Mapping[str, torch.Tensor]) -> str:
    save_file(dict(named), path)
    return str(path)


def spec_from(file: str, **train: Any) -> dict[str, Any]:
    """A spec over the digits whose run starts from a file."""
    return document(classes=10, batch_size=600, initial_parameters=file, **train)


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(64, 7), torch.nn.Tanh(), torch.nn.Linear(7, 10)
    ).double()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_every_value_is_kept_in_either_type(
    tmp_path: Path, stored: torch.dtype, dtype: str
) -> None:
    # Eight bits of mantissa, which every type holds.
    named = {name: t.to(torch.bfloat16).to(stored) for name, t in tensors().items()}
    named["0.bias"] = torch.tensor([0.0, -1.5, 2.0**-14], dtype=stored)

    found = load_initial(saved(tmp_path / "a.safetensors", named), SHAPES, dtype)

    assert found.vector.dtype == dtype
    for name, tensor in named.items():
        np.testing.assert_array_equal(found[name], tensor.to(torch.float64).numpy())


def test_nothing_is_rounded(tmp_path: Path) -> None:
    exact = load_initial(
        saved(tmp_path / "b.safetensors", tensors(torch.float32)), SHAPES, "float32"
    )
    named = tensors() | {"0.bias": torch.tensor([1.0, 0.1, 1e300], dtype=torch.float64)}
    path = saved(tmp_path / "c.safetensors", named)

    assert len(exact) == 12
    assert load_initial(path, SHAPES, "float64")["0.bias"][2] == 1e300
    with pytest.raises(InvalidSpec, match=r"2 values in '0\.bias' that float32 cannot hold"):
        load_initial(path, SHAPES, "float32")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    named = tensors() | {"0.bias": torch.tensor([1.0, float("nan"), 2.0])}

    with pytest.raises(InvalidSpec, match=r"values in '0\.bias' that are not finite"):
        load_initial(saved(tmp_path / "a.safetensors", named), SHAPES, "float64")


def test_pytorchs_count_of_mini_batches_is_ignored(tmp_path: Path) -> None:
    count = {"1.num_batches_tracked": torch.tensor(7)}
    named = tensors() | count

    load_initial(saved(tmp_path / "a.safetensors", named), SHAPES, "float64")

    named |= {"0.num_batches_tracked": torch.tensor(7)}  # the dense layer has none
    with pytest.raises(InvalidSpec, match=r"has '0\.num_batches_tracked'"):
        load_initial(saved(tmp_path / "b.safetensors", named), SHAPES, "float64")


def test_all_differences_are_reported_at_once_before_anything_starts(tmp_path: Path) -> None:
    named = network().state_dict()
    named["2.weigth"] = named.pop("2.weight")
    named["0.bias"] = torch.zeros(8)
    named["fc9.scale"] = torch.zeros(2)
    path = saved(tmp_path / "a.safetensors", named)
    named["2.bias"] = torch.zeros(10, dtype=torch.int32)

    with pytest.raises(InvalidSpec) as caught:
        inspect(resolve(spec_from(path)))

    assert {violation.path for violation in caught.value.violations} == {
        "train.initial_parameters"
    }
    assert [violation.message for violation in caught.value.violations] == [
        f"{path}: has no tensor '2.weight' of shape (10, 7), did you mean '2.weigth'?",
        f"{path}: has '2.weigth', which the model lacks, did you mean '2.weight'?",
        f"{path}: has 'fc9.scale', which the model lacks",
        f"{path}: has '0.bias' of shape (8,), but the model's is (7,)",
    ]


def test_whole_numbers_are_no_parameters(tmp_path: Path) -> None:
    named = tensors() | {"0.bias": torch.zeros(3, dtype=torch.int32)}

    with pytest.raises(InvalidSpec, match=r"'0\.bias' of dtype I32, expected one of F16"):
        load_initial(saved(tmp_path / "a.safetensors", named), SHAPES, "float64")


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"PK\x03\x04 and so on, as an archive", "it looks like a damaged zip archive"),
        (b"\xff" * 8 + bytes(8), "not a safetensors file: header of"),
        (b"\x08" + bytes(7) + b"{}      12", "cut off or too long: 2 bytes"),
        (b"\xff" + bytes(7) + b"{}", "cut off or too long"),
    ],
    ids=["absent", "empty", "archive", "random", "too long", "header cut off"],
)
def test_a_file_that_is_not_safetensors_is_refused(
    tmp_path: Path, content: bytes | None, pattern: str
) -> None:
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DbpError, match=pattern) as caught:
        inspect(resolve(spec_from(str(path))))

    assert str(caught.value).startswith(f"train.initial_parameters: {path}: ")


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = Path(saved(tmp_path / "a.safetensors", tensors()))
    content = path.read_bytes()

    for length in (4, 9, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidFile, match=re.escape(str(path))):
            load_initial(str(path), SHAPES, "float64")


def test_the_path_is_taken_from_the_folder_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        'name = "a"\ndata = { train = { kind = "digits" } }\n'
        'model = { layers = ["relu"], loss = "mean_squared_error" }\n'
        'optimizer = { kind = "sgd", learning_rate = 1.0 }\n'
        '[train]\nepochs = 1\ninitial_parameters = "../${NAME}.safetensors"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAME", "first")
        spec = resolve_file(tmp_path / "job.toml").spec

    assert spec.train.initial_parameters == str(tmp_path / "../first.safetensors")


def test_a_run_starts_from_the_file_on_every_rank(tmp_path: Path) -> None:
    start = network().state_dict()
    path = saved(tmp_path / "a.safetensors", start)
    spec = spec_from(path, steps=1) | {"optimizer": {"kind": "sgd", "learning_rate": 1e-300}}

    vectors = run_threads(
        3, lambda communicator: _trained(build(inspect(resolve(spec), 3)), communicator)
    )

    expected = torch.cat([tensor.flatten() for tensor in start.values()]).numpy()
    for vector in vectors:
        np.testing.assert_array_equal(vector, expected)


def test_ranks_with_different_files_do_not_begin(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", network().state_dict())
    setups = [build(inspect(resolve(spec_from(path)))) for _ in range(2)]
    assert setups[1].initial is not None
    setups[1].initial.vector[3] += 1.0

    with pytest.raises(DbpError, match="rank 1 has another file of initial parameters"):
        run_threads(2, lambda communicator: _trained(setups[communicator.rank], communicator))


def test_a_run_can_start_from_the_final_parameters_of_another(tmp_path: Path) -> None:
    first = inspect(resolve(document(classes=10, batch_size=600, epochs=2)))
    folder = RunFolder.prepare(tmp_path / "first", first.resolved.document)
    trainer = Trainer(build(first), SoloCommunicator(), sink=folder)
    trainer.run()

    setup = build(inspect(resolve(spec_from(str(folder.path / "parameters.safetensors")))))

    assert setup.initial is not None
    np.testing.assert_array_equal(setup.initial.vector, trainer.parameters.vector)


def _trained(setup: Setup, communicator: Any) -> Any:
    trainer = Trainer(setup, communicator)
    trainer.run()
    return trainer.parameters.vector.copy()


def test_a_file_of_pytorch_and_a_folder_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(network().state_dict(), path)

    with pytest.raises(InvalidFile, match=r"a PyTorch file; .*safetensors\.torch\.save_file"):
        inspect(resolve(spec_from(str(path))))
    with pytest.raises(InvalidFile, match=rf"is a folder; .*: {tmp_path}/parameters\.safet"):
        inspect(resolve(spec_from(str(tmp_path))))
    with pytest.raises(InvalidFile, match=r"model\.pt: not a safetensors file: .*PyTorch"):
        TrainedModel.load(path)


def test_a_record_of_a_run_is_refused_with_the_name_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "parameters.safetensors").touch()
    (tmp_path / "result.json").write_text('{"status": "succeeded"}')

    with pytest.raises(InvalidFile, match=rf"like JSON; name the run folder: {tmp_path}$"):
        TrainedModel.load(tmp_path / "result.json")
