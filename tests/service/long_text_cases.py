"""Specs of at most 1 MiB with long texts, and files with long names and headers.

Each is refused with the field that is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.bad_files import HEADER, Y_NPY, npy_bytes, npy_header, zip_bytes

Document = dict[str, Any]
# Name, document, and a part of the field in the message.
Case = tuple[str, Document, str]

LONG = 900_000
CELL = 100_000  # a cell may have 131,072 characters
WIDE = 25_000
COLUMNS = 9_900  # a list of a spec may have 10,000 items
TEXTS = {
    "letters": "a" * LONG,
    "hostile": "\u202e\x1b]0;title\x07\x9b2J\n" * (LONG // 20),
    "stars": "*" * LONG,
    "ranges": "[a-" * (LONG // 3),
    "folders": "/a" * (LONG // 2),
    "patterns": "/*" * (LONG // 2),
    "parents": "/.." * (LONG // 3),
    "marks": "e" + "\u0316\u0301" * (LONG // 5),
    "double marks": "\u0f73\u0f75\u0f81" * (LONG // 9),
}
BODY = "1,2,0\n" * 50


def specs(good: Document, root: Path) -> Iterator[Case]:
    """Yield specs with one long text each; ``good`` is a sound spec."""
    reader = good["data"]["train"]
    for name, text in TEXTS.items():
        for option in ("target", "target_kind", "delimiter", "weight", "kind"):
            yield _case(f"{option} of {name}", good, {option: text}, f"data.train.{option}")
        yield _case(f"path of {name}", good, {"path": text}, "data.train.path")
        yield _case(f"path below of {name}", good, {"path": f"{root}/{text}"}, "data.train.")
        yield _case(f"inputs of {name}", good, {"inputs": ["a", text]}, "data.train.inputs")
        yield _case(f"option of {name}", good, {text: 1}, "data.train.")
        for section, value, field in (
            ("name", text, "name"),
            ("data", {"train": reader, "scale": text}, "data.scale"),
            ("model", {**good["model"], "loss": text}, "model.loss"),
            ("model", {**good["model"], "metrics": [text]}, "model.metrics"),
            ("model", {**good["model"], "layers": [{"kind": text}]}, "model.layers[0]"),
            ("model", {**good["model"], "layers": [_dense(activation=text)]}, "activation"),
            ("model", {**good["model"], "layers": [_dense(units=text)]}, "units"),
            ("optimizer", {"kind": text}, "optimizer.kind"),
            ("train", {"stop": {"metric": text, "patience": 3}}, "train.stop.metric"),
            ("train", {"initial_parameters": text}, "train.initial_parameters"),
        ):
            yield f"{field} of {name}", {**good, section: value}, field
        yield f"section of {name}", {**good, text: 1}, "unknown field"
    many = [f"column-{number}" for number in range(COLUMNS)]
    yield _case("many inputs", good, {"inputs": many}, "data.train")
    yield _case("many inputs, last twice", good, {"inputs": [*many, many[-1]]}, "data.train")
    yield _case("many targets", good, {"targets": many}, "data.train")
    yield _case("many options", good, dict.fromkeys(many, 1), "data.train.column-0")
    yield "many sections", {**good, **dict.fromkeys(many, 1)}, "column-0: unknown field"


def files(good: Document, folder: Path) -> Iterator[Case]:
    """Yield specs of files with long names or headers, written to the folder."""
    folder.mkdir()
    for name, text, options, field in _csv_cases():
        path = folder / f"{name}.csv"
        path.write_text(text, "utf-8")
        reader = {"kind": "csv", "path": str(path), **options}
        yield f"csv {name}", {**good, "data": {"train": reader}}, field
    (folder / "y.npy").write_bytes(Y_NPY)
    for name, header in _headers():
        path = folder / f"{name}.npy"
        path.write_bytes(header)
        reader = {"kind": "npy", "inputs": str(path), "targets": str(folder / "y.npy")}
        yield f"npy {name}", {**good, "data": {"train": reader}}, "data.train"
    for name, members, options in _archives():
        path = folder / f"{name}.npz"
        path.write_bytes(zip_bytes(**members))
        reader = {"kind": "npz", "path": str(path), **options}
        yield f"npz {name}", {**good, "data": {"train": reader}}, "data.train"
    yield from _patterns(good, folder / "pairs")


def _case(name: str, good: Document, change: Document, field: str) -> Case:
    reader = {**good["data"]["train"], **change}
    return name, {**good, "data": {"train": reader}}, field


def _dense(**options: Any) -> Document:
    return {"kind": "dense", "units": 2, **options}


def _csv_cases() -> Iterator[tuple[str, str, Document, str]]:
    train, model = "data.train", "model.layers[0]"
    names = f"{'a' * CELL},{'b' * CELL}"
    marks = "e" + "\u0316\u0301" * (CELL // 4)
    yield "names, no target", f"{names},y\n{BODY}", {"target": "z"}, train
    yield "names, target near", f"{names},y\n{BODY}", {"target": "b" * 4000}, train
    yield "names, bad cell", f"{names},y\n{BODY}1,x,0\n", {}, train
    yield "names twice", f"{'a' * CELL},{'a' * CELL},y\n{BODY}", {}, train
    yield "names of marks", f"{marks},{marks},y\n{BODY}1,x,0\n", {}, train
    double = "\u0f73\u0f75\u0f81" * (CELL // 3)
    yield "names of double marks", f"{double},b,y\n{BODY}1,x,0\n", {}, train
    yield "names hostile", "\u202e\x9b2J" * 9000 + f",b,y\n{BODY}1,x,0\n", {}, train
    classes = "".join(f"1,{chr(97 + number) * CELL}\n" for number in range(20))
    yield "classes", f"a,y\n{classes}", {}, model
    yield "classes as values", f"a,y\n{classes}", {"target_kind": "values"}, train
    classes = "".join(f"1,{number:05}{'x' * 200}\n" for number in range(15_000))
    yield "many classes", f"a,y\n{classes}", {}, model
    classes = "".join(f"1,{marks[: CELL // 4]}{number}\n" for number in range(60))
    yield "classes of marks", f"a,y\n{classes}", {}, model
    classes = "".join(f"1,{double[: CELL // 2]}{number}\n" for number in range(60))
    yield "classes of double marks", f"a,y\n{classes}", {}, model
    yield "digits", "a,y\n" + f"{'1' * CELL},0\n" * 30, {}, train
    yield "grouped digits", "a,y\n" + f"{'1_' * (CELL // 2)},0\n" * 30, {}, train
    yield "digits as class", "a,y\n" + f"1,{'1' * CELL}\n" * 30, {}, train
    yield "cell", "a,y\n1,0\n" + f"{'x' * CELL},0\n", {}, train
    yield "target", "a,y\n1,0\n" + f"1,{'x' * CELL}\n", {}, train
    wide = ",".join(f"c{number}" for number in range(WIDE))
    zeros = ("0," * WIDE)[:-1]
    chosen: list[str | int] = [f"c{number}" for number in range(COLUMNS)]
    for name, options in (
        ("no target", {"target": "zz"}),
        ("many inputs", {"inputs": chosen, "target": f"c{WIDE - 1}"}),
        ("no input of many", {"inputs": [f"d{n}" for n in range(COLUMNS)]}),
        ("last input twice", {"inputs": [*chosen, COLUMNS - 1]}),
        ("many targets", {"targets": chosen}),
    ):
        field = "model.loss" if "targets" in options else train
        yield f"wide, {name}", f"{wide}\n{zeros}\n", options, field
    yield "wide, one name", "c," * WIDE + f"y\n{zeros},0\n", {}, train
    yield "wide, no names", "," * WIDE + f"\n{zeros},0\n", {}, train


def _headers() -> Iterator[tuple[str, bytes]]:
    fields = [(f"f{number}", "<f8") for number in range(3500)]
    for name, text in (
        ("parentheses", "(" * 60_000),
        ("minus", "-" * 60_000),
        ("sums", "1+" * 30_000 + "1"),
        ("texts", "'a' " * 15_000),
        ("keys", "{" + ",".join(f"'k{number}':1" for number in range(6000)) + "}"),
        ("digits", HEADER.replace("3, 2", "9" * 60_000 + ", 2")),
        ("dimensions", HEADER.replace("3, 2", "1, " * 15_000)),
        ("type", HEADER.replace("<f8", "<f" + "8" * 60_000)),
        ("type hostile", HEADER.replace("<f8", "\u202e" * 20_000)),
        ("fields", HEADER.replace("'<f8'", str(fields))),
    ):
        size = len(text.encode())
        yield name, b"\x93NUMPY\x03\x00" + struct.pack("<I", size) + text.encode() + bytes(48)
        if size < 2**16:
            yield f"{name}, version 1", npy_header(text, body=bytes(48))


def _archives() -> Iterator[tuple[str, dict[str, bytes], Document]]:
    x = npy_bytes(np.ones((3, 2)))
    yield "names", {"n" * 60_000: x, "m" * 60_000: Y_NPY}, {}
    yield "names chosen", {"n" * 60_000: x, "m" * 60_000: Y_NPY}, {"inputs": "n" * 60_000}
    yield "hostile names", {"\u202e\x1b]0;x\x07" * 4000: x}, {}
    many = {f"{number:04}" + "n" * 900: x for number in range(1000)}
    yield "many names", many, {"inputs": "n" * 900}


def _patterns(good: Document, folder: Path) -> Iterator[Case]:
    """Two patterns whose wildcards can share a name in countless ways."""
    folder.mkdir()
    name = f"x{'a' * 12}byx{'a' * 180}"
    for kind in ("in", "to"):
        (folder / f"{name}-{kind}.npy").write_bytes(Y_NPY)
    pattern = f"*x{'*a' * 12}*by*-"
    options = {
        "kind": "npy",
        "inputs": str(folder / f"{pattern}in.npy"),
        "targets": str(folder / f"{pattern}to.npy"),
    }
    yield "pattern of many stars", {**good, "data": {"train": options}}, "data.train"
