"""Where the file options of a document are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dbp.job.spec.files import expand_files, file_options

DOCUMENT = {
    "data": {
        "train": {"kind": "idx", "inputs": "a", "targets": "b"},
        "validation": {"kind": "npz", "path": "c", "inputs": "x"},
        "test": {"kind": "csv", "path": "d", "target": "e"},
    },
}


def test_every_file_option_is_found_and_nothing_else() -> None:
    found = [(option.path, option.file) for option in file_options(DOCUMENT)]

    assert found == [
        ("data.train.inputs", "a"),
        ("data.train.targets", "b"),
        ("data.validation.path", "c"),
        ("data.test.path", "d"),
    ]


@pytest.mark.parametrize(
    "document",
    [
        None,
        3,
        {},
        {"data": 3},
        {"data": {"train": 3}},
        {"data": {"train": {"kind": 3}}},
        {"data": {"train": {"kind": "unknown", "path": "x"}}},
        {"data": {"train": {"kind": "csv", "path": 3}}},
        {"data": {"validation": {"fraction": 0.1}, "train": "digits"}},
        {"model": {"layers": [3, "relu", {"kind": "dense", "weight_initializer": "zeros"}]}},
    ],
)
def test_documents_of_any_form_are_walked_without_an_error(document: Any) -> None:
    assert list(file_options(document)) == []


def test_several_variables_in_one_option_are_expanded() -> None:
    document = {"data": {"train": {"kind": "csv", "path": "${A}-${B}.csv"}}}

    assert expand_files(document, Path("/d"), {"A": "1", "B": "2"}) == []
    assert document["data"]["train"]["path"] == "/d/1-2.csv"


def test_a_value_is_expanded_once() -> None:
    document = {"data": {"train": {"kind": "csv", "path": "${A}"}}}

    expand_files(document, Path("/d"), {"A": "${B}", "B": "2"})

    assert document["data"]["train"]["path"] == "/d/${B}"


def test_wildcards_are_kept() -> None:
    document = {"data": {"train": {"kind": "csv", "path": "sets/part-[0-9]*.csv"}}}

    assert expand_files(document, Path("/d"), {}) == []
    assert document["data"]["train"]["path"] == "/d/sets/part-[0-9]*.csv"
