"""The tsv reader is the csv reader with a tab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data.csv import CSV
from dbp.data.tsv import TSV
from dbp.errors import InvalidData

TEXT = "width\tname\theight\tshare\n1.5\tsetosa\t3\t1\n2.5\tvirginica\t4\t0.5\n"


def tsv_file(folder: Path, text: str = TEXT) -> str:
    path = folder / "data.tsv"
    path.write_text(text)
    return str(path)


def test_tsv_gives_what_csv_gives_with_a_tab(tmp_path: Path) -> None:
    path = tsv_file(tmp_path)
    options: dict[str, Any] = {"target": "name", "weight": "share"}

    dataset = TSV(path=path, **options).open()

    assert dataset.info == TSV(path=path, **options).inspect()
    assert dataset.info == CSV(path=path, delimiter="\t", **options).inspect()
    assert dataset.info.class_names == ("setosa", "virginica")
    inputs, targets, weights = np.empty((2, 2)), np.empty(2, np.int64), np.empty(2)
    dataset.take_inputs(np.arange(2), inputs)
    dataset.take_targets(np.arange(2), targets)
    dataset.take_weights(np.arange(2), weights)
    assert inputs.tolist() == [[1.5, 3.0], [2.5, 4.0]]
    assert targets.tolist() == [0, 1]
    assert weights.tolist() == [1.0, 0.5]


def test_tsv_does_not_take_commas_for_tabs(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"data\.tsv:1: one column.*'\\t'"):
        TSV(path=tsv_file(tmp_path, "1,2,0\n")).open()


def test_tsv_refuses_options_that_csv_refuses() -> None:
    with pytest.raises(ValueError, match=r"^target: a column can be named only"):
        TSV(path="x", target="label", header="no")
