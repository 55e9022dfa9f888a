"""Names that look the same are the same, in files of any format, options and DataFrames."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.cli.predict.files import find_files
from dbp.cli.predict.tables import AUTO, read_columns
from dbp.client.inputs import in_order
from dbp.column_names import (
    INPUT_NAMES,
    OTHER_COLUMNS,
    Columns,
    check_table,
    columns_of,
    normalized_name,
)
from dbp.data.classes import align_classes
from dbp.data.column_order import align_columns
from dbp.data.csv import CSV
from dbp.data.dataset import Dataset
from dbp.data.parquet import Parquet
from dbp.errors import InvalidData
from tests.cost import cheap

NFC = "gr\u00f6\u00dfe"
NFD = unicodedata.normalize("NFD", NFC)
SPELLINGS = [
    NFD,
    f"\ufeff{NFC}",
    f"{NFC}\u200b",
    f" {NFC} ",
    f"{NFC}\u00a0",
    f"gr\u00ad{NFC[2:]}",
]

X = np.array([[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]])
LABELS = ["B\u00e4r", "Elch", "B\u00e4r"]


def target_of(name: str) -> str:
    """A name for the target in the same spelling."""
    return name.replace("\u00df", "s")


def write(folder: Path, kind: str, name: str, labels: list[str]) -> Path:
    """Three rows; an input and the target have names in the spelling of ``name``."""
    path = folder / f"rows.{kind}"
    names = ["b", name, target_of(name)]
    columns = [X[:, 1].tolist(), X[:, 0].tolist(), labels]
    if kind == "parquet":
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    else:
        rows = [names, *([str(cell) for cell in row] for row in zip(*columns, strict=True))]
        path.write_text("\n".join(map(",".join, rows)), encoding="utf-8")
    return path


def opened(path: Path, target: str) -> Dataset:
    if path.suffix == ".parquet":
        return Parquet(path=str(path), target=target).open()
    return CSV(path=str(path), target=target).open()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_set_whose_names_are_spelled_in_another_form_is_matched(
    tmp_path: Path, kind: str, spelling: str
) -> None:
    labels = [unicodedata.normalize("NFD", label) for label in LABELS]
    dataset = opened(write(tmp_path, kind, spelling, labels), target_of(NFC))
    info = dataset.info

    assert info.input_names == ("b", NFC)
    assert info.other_columns.targets == (normalized_name(target_of(spelling)),)
    assert info.class_names == ("B\u00e4r", "Elch")
    aligned = align_columns(
        align_classes(dataset, ("B\u00e4r", "Dachs", "Elch")),
        (NFC, "b"),
        info.other_columns,
        "x",
    )
    inputs, targets = np.empty((3, 2)), np.empty(3, np.int64)
    aligned.take_inputs(np.arange(3), inputs)
    aligned.take_targets(np.arange(3), targets)
    np.testing.assert_array_equal(inputs, X)
    assert targets.tolist() == [0, 2, 0]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_options_of_a_spec_may_be_spelled_in_another_form(
    tmp_path: Path, kind: str, spelling: str
) -> None:
    path = write(tmp_path, kind, NFC, ["0", "1", "0"] if kind == "csv" else LABELS)
    reader: Any = CSV if kind == "csv" else Parquet

    dataset = reader(path=str(path), target=f" {target_of(NFD)}", inputs=(spelling,)).open()

    assert dataset.info.input_names == (NFC,)
    assert dataset.info.other_columns.targets == (target_of(NFC),)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("stored", [NFC, NFD])
def test_a_model_s_names_match_those_of_rows_in_any_form(
    tmp_path: Path, kind: str, spelling: str, stored: str
) -> None:
    metadata = {
        INPUT_NAMES: json.dumps([stored, "b"]),
        OTHER_COLUMNS: json.dumps({"targets": [target_of(stored)]}),
    }
    columns = columns_of(metadata, "model")
    (file,) = find_files([write(tmp_path, kind, spelling, LABELS)])

    found = read_columns(file, columns, AUTO, print)

    np.testing.assert_array_equal(found.inputs, X)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_columns_of_a_data_frame_match_in_any_form(spelling: str) -> None:
    table = pa.table({"b": X[:, 1], spelling: X[:, 0]})

    found = in_order(table, tuple(table.column_names), Columns((NFC, "b")))

    np.testing.assert_array_equal(found, X)


def test_stored_names_that_would_be_the_same_stay_as_they_are() -> None:
    assert columns_of({INPUT_NAMES: json.dumps([NFC, NFD])}, "m").inputs == (NFC, NFD)


def test_columns_that_look_the_same_are_refused_as_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{NFC},{NFD},y\n1,2,0\n", encoding="utf-8")

    with pytest.raises(InvalidData, match=r"columns 0 and 1 .* both named"):
        CSV(path=str(path)).open()


def test_a_name_of_marks_alone_stays_as_it_is_and_takes_little_time() -> None:
    name = "e" + "\u0316\u0301" * 50_000
    with cheap():
        assert normalized_name(f" {name} ") == name

    assert normalized_name("e\u0301" * 1_000) == "\u00e9" * 1_000


def test_a_run_of_any_character_is_normalized_unless_it_has_too_many_marks() -> None:
    safe, unsafe = [], []
    for character in map(chr, range(sys.maxunicode + 1)):
        parts = unicodedata.normalize("NFD", character)
        marks = sum(1 for part in parts if unicodedata.combining(part))
        if not marks:
            continue
        longest = 30 // marks if marks == len(parts) else 100
        name = f"x{character * longest}xe\u0301"
        assert normalized_name(name) == unicodedata.normalize("NFC", name), ascii(character)
        safe.append((marks, character))
        if marks == len(parts):
            name = f"x{character * (longest + 1)}xe\u0301"
            assert normalized_name(name) == name, ascii(character)
            unsafe.append((marks, character))

    assert {"\u0f73", "\u0f75", "\u0f81"} <= {character for _, character in unsafe}
    for _, character in sorted(safe)[-5:] + sorted(unsafe)[-5:]:
        with cheap(0.3):
            normalized_name(character * 20_000)


def test_joiners_that_change_how_letters_are_drawn_are_kept() -> None:
    assert normalized_name("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645") != (
        normalized_name("\u0645\u06cc\u062e\u0648\u0627\u0647\u0645")
    )


@pytest.mark.parametrize(
    ("name", "found", "message"),
    [
        (
            "a",
            "\u0430",
            r"is spelled with U\+0430 \(CYRILLIC SMALL LETTER A\) instead of U\+0061",
        ),
        ("x-1", "x\u20131", r"U\+2013 \(EN DASH\) instead of U\+002D \(HYPHEN-MINUS\)"),
        ("size", "s\u00efze", r"U\+00EF \(LATIN SMALL LETTER I WITH DIAERESIS\)"),
    ],
)
def test_letters_that_only_look_like_the_model_s_are_named(
    name: str, found: str, message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        check_table([found], Columns((name,)))
