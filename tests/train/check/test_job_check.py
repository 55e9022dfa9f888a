"""Findings of ``check_job``: a sound job passes; faults of data and layers are found."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.train.check.job_check import check_job
from dbp.train.check.lanes import check_lanes
from tests.train.check import setups
from tests.train.check.setups import Faulty, failed, setup_of, texts
from tests.train.setups import document, make_setup


def test_a_sound_job_passes_and_reports_its_progress() -> None:
    calls: list[tuple[str, int, int]] = []

    findings = list(
        check_job(setup_of(), steps=3, on_progress=lambda *call: calls.append(call))
    )

    assert {finding.verdict for finding in findings} == {"ok"}, findings
    assert [subject for subject, _ in itertools.groupby(findings, key=lambda f: f.subject)] == [
        "data", "gradient", "lanes",
    ]  # fmt: skip
    assert any(finding.text.startswith("0.weight (7 x 5): 24 of 35") for finding in findings)
    assert "3 steps with exact numerics on 1, 2 and 3 ranks: the same bits" in findings[-1].text
    assert all(0 <= done < total for _, done, total in calls)
    assert sum(what == "training on several ranks" for what, _, _ in calls) == 9


LAYERS: dict[str, list[dict[str, Any]]] = {
    "kinks": [
        {"kind": "dense", "units": 40, "activation": "relu"},
        {"kind": "dense", "units": 40, "activation": "leaky_relu"},
        {"kind": "dense", "units": 3},
    ],
    "sync points and random numbers": [
        {"kind": "dense", "units": 6},
        {"kind": "batch_norm"},
        {"kind": "dropout", "rate": 0.3},
        {"kind": "residual", "layers": [{"kind": "dense", "units": 6}, {"kind": "batch_norm"}]},
        {"kind": "layer_norm"},
        {"kind": "dense", "units": 3},
    ],
    "images": [
        {"kind": "conv2d", "filters": 4},
        {"kind": "relu"},
        {"kind": "max_pool2d"},
        {"kind": "flatten"},
        {"kind": "dense", "units": 3},
    ],
}


@pytest.mark.parametrize(
    ("numerics", "exchange"),
    [
        ("fast", "allreduce"),
        ("fast", "sharded"),
        ("exact", "allreduce"),
        ("exact", "overlapped"),
    ],
)
@pytest.mark.parametrize("name", list(LAYERS))
def test_built_in_layers_pass(name: str, numerics: str, exchange: str) -> None:
    rng = np.random.default_rng(2)
    shape = (64, 1, 6, 6) if name == "images" else (64, 5)
    data = arrays(rng.normal(size=shape), rng.integers(0, 3, 64))
    spec = document(
        numerics=numerics, exchange=exchange, clip_norm=0.1, accumulate=2, batch_size=16
    )
    spec["model"]["layers"] = LAYERS[name]

    findings = list(check_job(make_setup(spec, data), steps=2))

    assert failed(iter(findings)) == []
    assert texts(iter(findings), "warning") == ""


def test_a_layer_that_remembers_fails_the_lanes_and_nothing_else() -> None:
    findings = list(check_job(setup_of(Faulty("calls"))))

    assert {f.subject for f in findings if f.verdict == "failed"} == {"lanes"}
    assert "different bits (1 rank: " in texts(iter(findings), "failed")


def test_a_layer_that_raises_is_a_finding_with_its_place() -> None:
    findings = list(check_job(setup_of(Faulty("raises"))))

    wrong = [finding for finding in findings if finding.verdict == "failed"]
    assert [finding.subject for finding in wrong] == ["gradient", "lanes"]
    assert "ArithmeticError: a fault of this layer" in wrong[0].text
    assert f"({setups.__file__}:" in wrong[0].text


@pytest.mark.parametrize("fault", ["asserts", "asserts backward"])
def test_failed_assertion_of_a_layer_names_the_layer_and_the_line(fault: str) -> None:
    found = failed(check_job(setup_of(Faulty(fault))))

    assert len(found) == 2
    for text in found:
        assert text.startswith(
            "model.layers[0].activation (Faulty) raises AssertionError: `raise AssertionError`"
        )
        assert f"({setups.__file__}:" in text
        assert text.endswith("dbp.testing.check_layer checks such a component alone")


def test_training_that_fails_within_the_steps_is_a_finding() -> None:
    setup = setup_of(optimizer={"kind": "sgd", "learning_rate": 1e38})

    found = failed(check_lanes(setup, steps=4))

    assert len(found) == 1
    assert found[0].startswith("training on 1 rank failed: ")


def test_few_lanes_are_checked_on_as_many_ranks() -> None:
    (finding,) = check_lanes(setup_of(lanes=2), steps=2)

    assert finding.verdict == "ok"
    assert "on 1 and 2 ranks" in finding.text
