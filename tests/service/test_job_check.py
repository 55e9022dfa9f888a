"""Which data are checked in a thread of the service, and which in a process of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.jobs.checks import NotCheapError
from dbp.service import job_check
from tests.jobs.fakes import FakeLauncher
from tests.service.setups import document


def check(folder: Path, **reader: Any) -> None:
    job_check.job_check((folder,), FakeLauncher())(document(data={"train": reader}), 1)


def write(folder: Path) -> Path:
    np.save(folder / "x.npy", np.zeros((20, 2)))
    np.save(folder / "y.npy", np.arange(20) % 2)
    (folder / "x.csv").write_text("0.5,1.25,0\n" * 20)
    pq.write_table(pa.table({"a": np.zeros(20), "y": np.zeros(20, int)}), folder / "x.parquet")
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"], file["y"] = np.zeros((20, 2)), np.zeros(20, int)
    return folder


def test_small_data_are_checked_at_once(tmp_path: Path) -> None:
    folder = write(tmp_path)

    check(folder, kind="csv", path=str(folder / "x.csv"))
    check(folder, kind="npy", inputs=str(folder / "x.npy"), targets=str(folder / "y.npy"))


@pytest.mark.parametrize(("kind", "name"), [("parquet", "x.parquet"), ("hdf5", "x.h5")])
def test_a_library_that_can_crash_gets_a_process(tmp_path: Path, kind: str, name: str) -> None:
    options = {"target": "y"} if kind == "parquet" else {}
    with pytest.raises(NotCheapError) as reason:
        check(write(tmp_path), kind=kind, path=str(tmp_path / name), **options)

    assert reason.value.whole


@pytest.mark.parametrize(("cheap", "whole"), [(100, 1000), (100, 150)])
def test_the_size_of_text_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap: int, whole: int
) -> None:
    monkeypatch.setattr(job_check, "CHEAP_BYTES", cheap)
    monkeypatch.setattr(job_check, "WHOLE_BYTES", whole)
    with pytest.raises(NotCheapError) as reason:
        check(write(tmp_path), kind="csv", path=str(tmp_path / "x.csv"))

    assert reason.value.whole == (whole > 220)


def test_many_files_take_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_check, "CHEAP_FILES", 2)
    for number in range(3):
        (tmp_path / f"part-{number}.csv").write_text("0.5,1.25,0\n" * 20)
    with pytest.raises(NotCheapError):
        check(tmp_path, kind="csv", path=str(tmp_path / "part-*.csv"))
