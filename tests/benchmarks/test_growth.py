"""The benchmark of growth: points have the sizes they claim, and are measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dbp.job.spec.resolve import resolve
from dbp.nn.model import Model
from dbp.train.run_spec import run_spec
from tests.benchmarks import growth
from tests.benchmarks.growth import AXES, Point

pytestmark = pytest.mark.processes


def test_parameters_grow_from_ten_thousand_to_a_hundred_million() -> None:
    sizes = list(AXES["parameters"])

    assert [f"{size:.0e}" for size in sizes] == ["1e+04", "2e+05", "1e+06", "1e+07", "1e+08"]


@pytest.mark.parametrize("point", [Point(), Point(7, 3, inputs=5)])
def test_a_point_counts_the_parameters_of_its_model(point: Point) -> None:
    resolved = run_spec(resolve(growth.spec(point, Path("/nowhere"), 1)))
    model = Model(resolved.layers, (point.inputs,), dtype="float32", loss=resolved.loss)

    assert sum(map(math.prod, model.tensor_shapes.values())) == point.parameters


def test_a_point_is_measured_in_a_process_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    growth.main(["--steps", "2", "--axis", "samples", "--largest", "10000"])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("the smallest model takes ")
    assert lines[2].split() == ["samples", "ms", "a", "step", "memory", "bytes", "per", "unit"]
    assert lines[3].split()[0] == "10,000"


def test_files_of_samples_take_no_space(tmp_path: Path) -> None:
    growth.write_samples(Point(samples=10**6, inputs=8), tmp_path)

    facts = (tmp_path / "inputs.npy").stat()
    assert facts.st_size > 32 * 10**6
    assert facts.st_blocks * 512 < 10**6
