"""Labels that a loss of classes does not take are listed, with a command that rewrites them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dbp.data import classes, labels
from dbp.data.array_dataset import TargetKind, arrays
from dbp.data.labels import Labels
from dbp.data.npy import NPY
from dbp.errors import InvalidData, InvalidInput
from dbp.job.spec.resolve import resolve
from dbp.train.build import build
from dbp.train.check.inspection import inspect

pytestmark = pytest.mark.processes

Y = np.arange(24) % 3


def train(
    folder: Path, targets: npt.ArrayLike, loss: str, units: int, kind: TargetKind = "auto"
) -> str:
    """Check and build a job on these targets; the message of the error."""
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(24, 3)))
    np.save(folder / "y.npy", np.array(targets))
    with pytest.raises(InvalidInput) as raised:
        build(inspect(resolve(document(folder, "y.npy", loss, units, kind))))
    return str(raised.value)


def document(
    folder: Path, targets: str, loss: str, units: int, kind: TargetKind = "auto"
) -> dict[str, object]:
    reader = {
        "kind": "npy",
        "inputs": str(folder / "x.npy"),
        "targets": str(folder / targets),
        "target_kind": kind,
    }
    return {
        "name": "labels",
        "data": {"train": reader},
        "model": {"layers": [{"kind": "dense", "units": units}], "loss": loss},
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "train": {"batch_size": 8, "epochs": 1},
    }


ONE_HOT = np.eye(3)[Y]

CASES: dict[str, tuple[npt.ArrayLike, str, int, TargetKind, list[str]]] = {
    "one-hot": (ONE_HOT, "softmax_cross_entropy", 3, "auto", ["one-hot rows of 3", "argmax"]),
    "one-hot whole": (ONE_HOT.astype(int), "softmax_cross_entropy", 3, "auto", ["argmax"]),
    "one-hot classes": (ONE_HOT, "softmax_cross_entropy", 3, "class", ["(24, 3)", "argmax"]),
    "probabilities": (
        ONE_HOT * 0.8 + 0.2 / 3, "softmax_cross_entropy", 3, "auto", ["rows of", "argmax"],
    ),
    "floats": (
        Y.astype(float), "softmax_cross_entropy", 3, "auto",
        ["whole numbers stored as floats, 0 to 2", 'target_kind = "class"'],
    ),
    "0.0 and 1.0": ((Y > 0) * 1.0, "hinge", 1, "auto", ["0 and 1", 'target_kind = "class"']),
    "fractions": (Y + 0.5, "softmax_cross_entropy", 3, "auto", ["0.5, 1.5 and 2.5", "mean_sq"]),
    "fractions as classes": (Y + 0.5, "hinge", 3, "class", ["0.5, 1.5 and 2.5", "mean_sq"]),
    "-1 and 1": (np.where(Y > 0, 1, -1), "hinge", 1, "auto", ["-1 and 1", "(y > 0).astype"]),
    "-1.0 and 1.0": (np.where(Y > 0, 1.0, -1), "hinge", 1, "auto", ["-1 and 1; cl", "y > 0"]),
    "1 to 3": (Y + 1, "softmax_cross_entropy", 3, "auto", ["class 3", "1 to 3", "y - 1"]),
    "1 to 3 for two": (Y + 1, "hinge", 1, "auto", ["1 to 3", "y - 1", "last layer 3 units"]),
    "too many": (Y, "binary_cross_entropy", 1, "auto", ["0 to 2", "last layer 3 units"]),
    "-1 to 1": (Y - 1, "softmax_cross_entropy", 3, "auto", ["-1 to 1", "y - y.min()"]),
    "identifiers": (Y + 2**40, "hinge", 3, "auto", ["identifiers", "np.unique"]),
    "several labels": (
        np.ones((24, 3)), "softmax_cross_entropy", 3, "auto", ["zeros and ones", "sigmoid_"],
    ),
    "several values": (
        ONE_HOT + 0.5, "softmax_cross_entropy", 3, "auto", ["rows of 3 numbers", "mean_sq"],
    ),
    "names": (np.array(["a", "b", "c"])[Y], "hinge", 3, "auto", ["'<U1'", "np.unique"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_targets_that_are_no_classes_are_listed_with_a_remedy(
    tmp_path: Path, case: str
) -> None:
    targets, loss, units, kind, fragments = CASES[case]

    message = train(tmp_path, targets, loss, units, kind)

    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    "case",
    ["one-hot", "one-hot whole", "one-hot classes", "probabilities", "-1 and 1", "-1.0 and 1.0",
     "1 to 3", "1 to 3 for two", "-1 to 1", "identifiers"],
)  # fmt: skip
def test_the_command_of_a_message_makes_labels_that_train(tmp_path: Path, case: str) -> None:
    targets, loss, units, kind, _ = CASES[case]
    message = train(tmp_path, targets, loss, units, kind)
    command = message[message.index("python -c") : message.index(", then targets = ")]

    subprocess.run(["bash", "-euc", command.replace("python", sys.executable, 1)], check=True)

    wanted = 3 if "last layer 3" in message else units
    build(inspect(resolve(document(tmp_path, "y.classes.npy", loss, wanted))))


def test_labels_are_listed_in_short() -> None:
    assert str(Labels.of([np.array([3, 1]), np.array([2])])) == "1 to 3"
    assert str(Labels.of([np.array([0, 5])])) == "0 and 5"
    assert str(Labels.of([np.array([7])])) == "7"
    assert str(Labels.of([np.array([-0.0, 1.0, 2.0])])) == "0 to 2"
    assert str(Labels.of([np.array([0.5, 1e39])])) == "0.5 and 1e+39"
    assert str(Labels.of([np.arange(0, 30, 3)])) == "0, 3, 6, 9, 12, 15, ..."


def test_a_reader_of_a_pattern_has_no_single_file_to_rewrite(tmp_path: Path) -> None:
    for part in "ab":
        np.save(tmp_path / f"x-{part}.npy", np.ones((4, 2)))
        np.save(tmp_path / f"y-{part}.npy", np.array([1, 2, 3, 1]))
    reader = NPY(inputs=f"{tmp_path}/x-*.npy", targets=f"{tmp_path}/y-*.npy")

    assert reader.inspect().targets_name == ""


def test_a_class_in_a_late_block_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_BLOCKS", 1)
    monkeypatch.setattr(classes, "_ROWS", 4)
    dataset = arrays(np.ones((12, 2)), np.array([0, 1, 2, 0] * 2 + [0, 1, 7, 0]))

    with pytest.raises(InvalidData, match=r"class 7, .*: give the last layer 8 units"):
        classes.check_targets(dataset, 3)


@pytest.mark.parametrize("smallest", [0, 1])
def test_two_classes_that_are_more_are_for_another_loss(smallest: int) -> None:
    dataset = arrays(np.ones((4, 2)), np.array([smallest, 2, 7, 3]))

    with pytest.raises(InvalidData, match=r"units \(if the loss is binary_cross_entropy, "):
        classes.check_targets(dataset, 2)
    with pytest.raises(InvalidData, match=r"give the last layer \d units$"):
        classes.check_targets(dataset, 3)
