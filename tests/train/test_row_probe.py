"""Joined lanes: which products join them, and the bits of lanes computed one by one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.nn.layer import Workspace
from dbp.nn.row_product import RowProduct, keeps_bits
from dbp.parallel.communicator import SoloCommunicator
from dbp.train import row_probe
from dbp.train.build import Setup
from dbp.train.check.arithmetic import arithmetic
from dbp.train.report.fan_out import StartRecorder
from dbp.train.report.sink import LaneProducts
from dbp.train.row_probe import RowProbe
from dbp.train.trainer import Trainer
from tests.train.setups import Array, document, make_setup, run_ranks

FEATURES, UNITS, SAMPLES = 96, 128, 250  # rows of 128 outputs keep their bits on most BLAS


def setup_of(**train: Any) -> Setup:
    """Mini-batches of 128 and of 122: lanes of 32, and of 30 and 31 rows."""
    settings: dict[str, Any] = {
        "batch_size": 128,
        "lanes": 4,
        "dtype": "float32",
        "epochs": 2,
    } | train
    spec = document(hidden=UNITS, **settings)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(SAMPLES, FEATURES))
    return make_setup(spec, arrays(x, rng.integers(0, 3, SAMPLES)))


def test_every_rank_probes_the_rows_of_its_own_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[Any] = []

    def keeps(product: RowProduct, dtype: str, lanes: Any) -> bool:
        probed.append((product.inner, product.columns, lanes))
        return product.columns == UNITS

    monkeypatch.setattr(row_probe, "keeps_bits", keeps)
    setup = setup_of()

    probe = RowProbe(setup.model, setup.plan, lambda rows: [(rows - 60, rows - 29), (99, rows)])

    assert probe.of(128) == [{"y"}, set(), {"dx"}]  # dense, tanh, dense
    assert probe.of(64) == ()
    assert probe.found == LaneProducts(lanes=2, joined=2, products=3)
    # The first layer needs no dx; mini-batches have 128 and 122 samples.
    lanes = {rows: ((0, 31), (99 - rows + 60, 60)) for rows in (122, 128)}
    shapes = [(FEATURES, UNITS), (UNITS, 3), (3, UNITS)]
    assert probed == [(*shape, lanes[rows]) for rows in (122, 128) for shape in shapes]


def test_the_reported_products_are_those_of_a_full_mini_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_probe, "keeps_bits", lambda *probed: probed[2][-1][1] == 128)
    setup = setup_of()

    probe = RowProbe(setup.model, setup.plan, lambda rows: [(0, 60), (60, rows)])

    assert probe.of(122) == [set(), set(), set()]
    assert probe.found == LaneProducts(lanes=2, joined=3, products=3)


@pytest.mark.parametrize(
    ("train", "lanes"),
    [
        ({"lanes": 4}, 4),
        ({"lanes": 1}, None),
        ({"lanes": 4, "accumulate": 2}, None),
        ({"numerics": "fast"}, None),
    ],
)
def test_a_run_reports_its_joined_products_where_a_rank_has_several_lanes(
    train: dict[str, Any], lanes: int | None
) -> None:
    sink = StartRecorder()

    Trainer(setup_of(**train), SoloCommunicator(), sink=sink).run()

    assert sink.plan is not None
    found = sink.plan.lane_products
    assert (found and found.lanes) == lanes


def test_ranks_that_join_different_products_have_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Joined products have the bits of lanes alone, so each rank decides for itself."""
    expected = run_ranks(1, setup_of)[0][1]
    keeps, calls = keeps_bits, itertools.count()
    monkeypatch.setattr(
        row_probe, "keeps_bits", lambda *probed: next(calls) % 2 == 0 and keeps(*probed)
    )

    for _, found in run_ranks(3, setup_of):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["sharded", "allreduce", "overlapped"])
@pytest.mark.parametrize("shares_memory", [True, False])
def test_joined_lanes_have_the_bits_of_lanes_one_by_one(
    mode: str, *, shares_memory: bool
) -> None:
    def one_by_one() -> Setup:
        setup = setup_of(exchange=mode)
        setup.model.joins_lanes = False
        return setup

    def train(ranks: int, make: Any) -> list[Array]:
        return [vector for _, vector in run_ranks(ranks, make, shares_memory=shares_memory)]

    expected = train(1, one_by_one)[0]

    for ranks in (1, 2, 3, 4):
        for found in train(ranks, lambda: setup_of(exchange=mode)):
            np.testing.assert_array_equal(found, expected, f"{ranks} ranks")


@pytest.mark.parametrize(
    ("hidden", "batch_size", "samples", "dtype"),
    [(12, 20, 200, "float32"), (50, 16, 164, "float32"), (3, 4, 40, "float64")],
)
def test_one_output_has_the_same_bits_on_every_number_of_ranks(
    hidden: int, batch_size: int, samples: int, dtype: str
) -> None:
    """Sums in another order often round alike: one draw of numbers missed these."""

    def setup() -> Setup:
        rng = np.random.default_rng(3)
        x = rng.normal(size=(samples, 5))
        y = x[:, 0] + 0.1 * rng.normal(size=samples)
        spec = document(
            hidden=hidden, classes=1, loss="mean_squared_error", batch_size=batch_size,
            epochs=2, dtype=dtype, optimizer={"kind": "sgd", "learning_rate": 0.05},
        )  # fmt: skip
        return make_setup(spec, arrays(x, y))

    found = [vector for ranks in (1, 2, 3, 4) for _, vector in run_ranks(ranks, setup)]

    for vector in found[1:]:
        np.testing.assert_array_equal(vector, found[0])


def test_rows_in_another_order_of_memory_are_computed_lane_by_lane() -> None:
    workspace = Workspace(np.float64)
    workspace.lanes, workspace.joined = [slice(0, 2), slice(2, 4)], {"y"}
    rows = np.asfortranarray(np.random.default_rng(1).normal(size=(4, 3)))
    matrix, out = np.ones((3, 2)), np.empty((4, 2))
    counts: list[int] = []
    matmul = np.matmul

    def counted(left: Any, right: Any, out: Any) -> None:
        counts.append(len(left))
        matmul(left, right, out=out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "matmul", counted)
        workspace.multiply_rows("y", rows, matrix, out)
        workspace.multiply_rows("y", np.ascontiguousarray(rows), matrix, out)

    assert counts == [2, 2, 4]


def test_a_rank_computes_all_lanes_in_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_probe, "keeps_bits", lambda *_: True)
    rows: list[int] = []
    matmul = np.matmul

    def counted(left: Any, right: Any, out: Any) -> None:
        if right.shape == (FEATURES, UNITS):  # the first layer, forward
            rows.append(len(left))
        matmul(left, right, out=out)

    monkeypatch.setattr(np, "matmul", counted)
    run_ranks(1, lambda: setup_of(epochs=1))

    assert rows == [128, 122]


@pytest.mark.parametrize(
    ("written", "warns"),
    [
        (arithmetic(), False),
        ("another processor", True),
    ],
)
def test_a_resume_warns_of_another_arithmetic(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, written: str, *, warns: bool
) -> None:
    def train(*, resume: bool) -> None:
        trainer = Trainer(setup_of(), SoloCommunicator(), checkpoints=tmp_path, resume=resume)
        if not resume:
            trainer._recovery.arithmetic = written
        trainer.run()

    train(resume=False)
    train(resume=True)

    assert (f"was written with {written}; this is {arithmetic()}: " in caplog.text) == warns
