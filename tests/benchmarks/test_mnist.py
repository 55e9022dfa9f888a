"""The benchmark of MNIST: both contenders reach the target on images that are easy to learn."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import mnist
from tests.benchmarks.mnist import Goal, Reached

pytestmark = pytest.mark.processes


def write_idx(path: Path, values: np.ndarray) -> None:
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.tobytes()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of 28x28 bytes, each class with its own bright row."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 400), ("t10k", 100)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        images = rng.integers(0, 50, (count, 28, 28)).astype(np.uint8)
        images[np.arange(count), 2 * labels.astype(int)] = 250
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_both_contenders_stop_at_the_target(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mnist.main(
        [str(folder), "--seeds", "1", "--cores", "1", "--target", "0.9", "--output", "json"]
    )

    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["dbp", "scikit-learn"]
    for (result,) in found.values():
        assert result["accuracy"] >= 0.9
        assert result["seconds"] > 0
        assert 1 <= result["epochs"] < Goal.epochs


def test_a_target_that_is_not_reached_is_no_result(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"after 1 epochs, wanted 1\.1"):
        mnist.run_sklearn(Goal(str(folder), target=1.1, epochs=1), 1, 1)


def test_the_table_has_medians_and_paired_ratios() -> None:
    found = {
        "dbp": [Reached(1, 3, 0.976), Reached(2, 4, 0.977), Reached(4, 5, 0.975)],
        "scikit-learn, 1 thread": [Reached(30, 3, 0.976)] * 3,
        "scikit-learn": [Reached(3, 3, 0.976), Reached(4, 4, 0.975), Reached(9, 6, 0.978)],
    }

    table = mnist.rows(found)

    assert table[1] == ["dbp", "2.00", "1.00", "4.00", "4", "0.9760"]
    assert table[-1] == ["scikit-learn / dbp", "2.25", "2.00", "3.00", "", ""]
    assert (
        "| dbp | 2.00 | 1.00 | 4.00 | 4 | 0.9760 |"
        in mnist.section(Goal("x"), table, 3, 2).splitlines()
    )
