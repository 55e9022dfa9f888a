"""Malformed files of each format, with fragments of the error that refuses them."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from dbp.data.csv import CSV
from dbp.data.dataset import Reader
from dbp.data.idx import IDX
from dbp.data.npy import NPY
from tests.data.bad_files import HEADER, Y_NPY, Make, npy_bytes, npy_header, npz, zip_bytes


def idx_bytes(shape: tuple[int, ...], body: bytes | None = None, *, code: int = 8) -> bytes:
    size = int(np.prod(shape))
    head = struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)
    return head + (bytes(size) if body is None else body)


X_IDX = idx_bytes((3, 2, 2))


Y_IDX = idx_bytes((3,))


X_NPY = npy_bytes(np.ones((3, 2)))


BODY = bytes(48)


def idx(inputs: bytes = X_IDX, targets: bytes = Y_IDX, **options: Any) -> Make:
    def make(folder: Path) -> Reader:
        (folder / "images").write_bytes(inputs)
        (folder / "labels").write_bytes(targets)
        return IDX(inputs=str(folder / "images"), targets=str(folder / "labels"), **options)

    return make


def npy(inputs: bytes = X_NPY, targets: bytes = Y_NPY, **options: Any) -> Make:
    def make(folder: Path) -> Reader:
        (folder / "x.npy").write_bytes(inputs)
        (folder / "y.npy").write_bytes(targets)
        return NPY(inputs=str(folder / "x.npy"), targets=str(folder / "y.npy"), **options)

    return make


def csv(content: str | bytes, **options: Any) -> Make:
    def make(folder: Path) -> Reader:
        data = content.encode() if isinstance(content, str) else content
        (folder / "data.csv").write_bytes(data)
        return CSV(path=str(folder / "data.csv"), **options)

    return make


def patched(content: bytes, offset: int, new: bytes) -> bytes:
    return content[:offset] + new + content[offset + len(new) :]


def encrypted_flag(content: bytes) -> bytes:
    """The archive with all its members declared encrypted, in both places it says so."""
    data = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset] |= 1
            start = data.find(signature, start + 1)
    return bytes(data)


def twice_the_same_name() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", X_NPY)
        archive.writestr("y.npy", Y_NPY)
        archive.writestr("z.npy", Y_NPY)
    return stream.getvalue().replace(b"z.npy", b"y.npy")


def other_method() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", X_NPY)
        archive.writestr("y.npy", Y_NPY)
    return stream.getvalue()


def damaged_member() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", X_NPY)
        archive.writestr("y.npy", Y_NPY)
    content = stream.getvalue()
    return patched(content, content.find(X_NPY) + 130, b"\x01")


GZ = gzip.compress(idx_bytes((3, 40, 40), np.random.default_rng(0).bytes(4800)))


CASES: dict[str, tuple[Make, list[str]]] = {
    # idx
    "idx empty": (idx(b""), ["images", "is empty"]),
    "idx of another format": (
        idx(b"\x89PNG\r\n\x1a\n"),
        ["images", "not an IDX file", "a PNG image"],
    ),
    "idx of three bytes": (idx(b"\0\0\x08"), ["images", "not an IDX file"]),
    "idx unknown type": (idx(idx_bytes((3, 4), code=7)), ["images", "type code 07", "08"]),
    "idx no dimensions": (idx(b"\0\0\x08\0\0"), ["images", "0 dimensions"]),
    "idx 255 dimensions": (idx(b"\0\0\x08\xff" + bytes(1020)), ["images", "255 dimensions"]),
    "idx cut in its header": (idx(X_IDX[:10]), ["images", "within its header", "10 of 16"]),
    "idx cut in its body": (idx(X_IDX[:-1]), ["images", "too short", "28 bytes", "found 27"]),
    "idx with more behind": (idx(X_IDX + b"x"), ["images", "too long", "28 bytes", "found 29"]),
    "idx header of 10^18": (
        idx(idx_bytes((10**9, 10**9), b"")),
        ["images", "too short", "1,000,000,000,000,000,012"],
    ),
    "idx without samples": (idx(idx_bytes((0, 28, 28))), ["images", "no samples"]),
    "idx gzip cut": (idx(GZ[:-200]), ["images", "end too early", "download"]),
    "idx gzip damaged": (idx(patched(GZ, 900, b"\xff" * 40)), ["images", "damaged"]),
    "idx gzip wrong sum": (idx(patched(GZ, len(GZ) - 8, b"\0\0\0\0")), ["images", "CRC"]),
    "idx gzip header only": (idx(b"\x1f\x8b"), ["images", "end too early"]),
    "idx gzip of other text": (idx(gzip.compress(b"hello")), ["images", "not an IDX file"]),
    "idx gzip too short": (
        idx(gzip.compress(X_IDX[:-1])),
        ["images", "too short", "28 bytes", "found 27"],
    ),
    "idx gzip too long": (idx(gzip.compress(X_IDX + b"x")), ["images", "too long", "28 bytes"]),
    "idx gzip bomb": (
        idx(gzip.compress(idx_bytes((3, 2**20, 2**10), b"")), idx_bytes((3,))),
        ["images", "announce 3,221,225,488", "200 times"],
    ),
    "idx inputs and targets exchanged": (
        idx(Y_IDX, X_IDX),
        ["images", "(3,)", "labels", "exchanged"],
    ),
    "idx labels given twice": (idx(Y_IDX, Y_IDX), ["images", "(3,)", "are these the targets?"]),
    "idx images given twice as classes": (
        idx(X_IDX, X_IDX, target_kind="class"),
        ["labels", "(3, 2, 2)", "one class per sample", "are these the inputs?"],
    ),
    "idx unequal": (
        idx(targets=idx_bytes((4,))),
        ["images", "3 inputs", "labels", "4 targets"],
    ),
    "idx negative class": (
        idx(targets=idx_bytes((3,), b"\0\xff\0", code=9)),
        ["labels", "sample 1", "class -1"],
    ),
    "idx NaN input": (
        idx(idx_bytes((3, 1), struct.pack(">3f", 0, 1, float("nan")), code=0x0D)),
        ["images", "sample 2", "element [0]", "nan"],
    ),
    # npy
    "npy empty": (npy(b""), ["x.npy", "is empty"]),
    "npy of another format": (npy(b"hello\0 world"), ["x.npy", "not a .npy array", "68 65"]),
    "npy given an npz": (npy(zip_bytes(x=X_NPY)), ["x.npy", 'kind = "npz"']),
    "npy version 9": (npy(patched(X_NPY, 6, b"\x09")), ["x.npy", "version 9.0"]),
    "npy header of 4 GiB": (
        npy(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
        ["x.npy", "header of 4,294,967,295"],
    ),
    "npy of bfloat16": (
        npy(npy_header(HEADER.replace("<f8", "<V2"), body=bytes(12))),
        ["x.npy", "'<V2'", "bfloat16", "float32", ".safetensors"],
    ),
    "npy cut in its header": (npy(X_NPY[:40]), ["x.npy", "ends within its header"]),
    "npy header is no dictionary": (npy(npy_header("[1]")), ["x.npy", "unreadable", "[1]"]),
    "npy header is code": (
        npy(npy_header("{'descr': __import__('os').getcwd(), 'shape': (3,2)}")),
        ["x.npy", "unreadable"],
    ),
    "npy header lacks the shape": (
        npy(npy_header("{'descr': '<f8', 'fortran_order': False}")),
        ["x.npy", "unreadable"],
    ),
    "npy header says one thing twice": (
        npy(npy_header("{'descr': '<f8', 'descr': '<f8', 'shape': (3, 2)}", body=BODY)),
        ["x.npy", "unreadable"],
    ),
    "npy of objects": (npy(npy_bytes(np.array([{}, {}], object))), ["x.npy", "pickle"]),
    "npy of records": (
        npy(npy_bytes(np.zeros(3, [("a", "<f4"), ("b", "<i4")]))),
        ["x.npy", "array of records"],
    ),
    "npy of text": (npy(npy_bytes(np.array(["a", "b"]))), ["x.npy", "'<U1'", "accepted"]),
    "npy of complex numbers": (npy(npy_bytes(np.ones((3, 2), complex))), ["x.npy", "'<c16'"]),
    "npy of dates": (
        npy(npy_bytes(np.zeros((3, 1), "M8[s]"))),
        ["x.npy", "'<M8[s]'"],
    ),
    "npy negative shape": (
        npy(npy_header(HEADER.replace("3", "-3"), body=BODY)),
        ["x.npy", "(-3, 2) is not one"],
    ),
    "npy shape beyond 64 bits": (
        npy(npy_header(HEADER.replace("3, 2", "4294967296, 4294967296"), body=BODY)),
        ["x.npy", "too short", "found"],
    ),
    "npy 33 dimensions": (
        npy(npy_header(HEADER.replace("3, 2", "1, " * 33), body=bytes(8))),
        ["x.npy", "33 dimensions"],
    ),
    "npy 80 bytes asking 32 GiB": (
        npy(npy_header(HEADER.replace("3, 2", "4294967296, 1"))),
        ["x.npy", "too short", "34,359,738"],
    ),
    "npy cut in its body": (npy(X_NPY[:-8]), ["x.npy", "too short", "176 bytes", "found 168"]),
    "npy with more behind": (npy(X_NPY + b"12"), ["x.npy", "too long", "found 178"]),
    "npy one number": (npy(npy_bytes(1.0)), ["x.npy", "at least two dimensions"]),
    "npy one number as targets": (npy(targets=npy_bytes(1)), ["y.npy", "single number"]),
    "npy one feature without its axis": (
        npy(npy_bytes(np.ones(3))),
        ["x.npy", "(3,)", "(samples, 1)"],
    ),
    "npy targets without numbers": (
        npy(targets=npy_bytes(np.ones((3, 0)))),
        ["y.npy", "(3, 0)"],
    ),
    "npy unequal": (npy(targets=npy_bytes(np.ones(5))), ["x.npy", "3 inputs", "y.npy", "5"]),
    "npy infinite input": (
        npy(npy_bytes([[0, 1], [2, np.inf], [0, 0]])),
        ["x.npy", "sample 1", "element [1]", "inf"],
    ),
    "npy NaN target": (npy(targets=npy_bytes([0.0, np.nan, 1])), ["y.npy", "sample 1", "nan"]),
    "npy class with a fraction": (
        npy(targets=npy_bytes([0, 1, 1.5]), target_kind="class"),
        ["y.npy", "sample 2", "class 1.5", "whole number"],
    ),
    "npy class beyond all bounds": (
        npy(targets=npy_bytes(np.array([0, 2**63, 1], np.uint64))),
        ["y.npy", "sample 1", "class 9223372036854775808"],
    ),
    # npz
    "npz of another format": (npz(b"hello\0"), ["all.npz", "damaged", "zip"]),
    "npz given an npy": (npz(X_NPY), ["all.npz", 'kind = "npy"']),
    "npz cut": (npz(zip_bytes(x=X_NPY, y=Y_NPY)[:-30]), ["all.npz", "damaged"]),
    "npz lacks an array": (
        npz(zip_bytes(x=X_NPY, labels=Y_NPY), targets="label"),
        ["all.npz", "no array 'label'", "did you mean 'labels'", "x, labels"],
    ),
    "npz lacks the inputs": (
        npz(zip_bytes(y=Y_NPY, images=X_NPY)),
        ["all.npz", "no array 'x'", "y, images", 'inputs = "images"'],
    ),
    "npz two of one name": (npz(twice_the_same_name()), ["all.npz", "same name"]),
    "npz encrypted": (
        npz(encrypted_flag(zip_bytes(x=X_NPY, y=Y_NPY))),
        ["all.npz[x]", "encrypted"],
    ),
    "npz other compression": (npz(other_method()), ["all.npz[x]", "compression method 14"]),
    "npz wrong checksum": (npz(damaged_member()), ["all.npz", "CRC-32", "x.npy"]),
    "npz of objects": (
        npz(zip_bytes(x=npy_bytes(np.array([{}], object)), y=Y_NPY)),
        ["all.npz[x]", "pickle"],
    ),
    "npz array cut": (npz(zip_bytes(x=X_NPY[:-1], y=Y_NPY)), ["all.npz[x]", "too short"]),
    "npz array cut in its header": (
        npz(zip_bytes(x=X_NPY[:40], y=Y_NPY)),
        ["all.npz[x]", "within its header"],
    ),
    "npz array is text": (npz(zip_bytes(x=b"hello", y=Y_NPY)), ["all.npz[x]", "not a .npy"]),
    "npz nested": (
        npz(zip_bytes(x=zip_bytes(x=X_NPY), y=Y_NPY)),
        ["all.npz[x]", "not a .npy"],
    ),
    "npz of 2,000 arrays": (
        npz(zip_bytes(**{f"a{i}": b"" for i in range(2000)})),
        ["all.npz", "2,000 arrays"],
    ),
    "npz unequal": (
        npz(zip_bytes(x=X_NPY, y=npy_bytes(np.arange(4)))),
        ["all.npz[x]", "3 inputs", "all.npz[y]", "4 targets"],
    ),
    # csv
    "csv empty": (csv(""), ["data.csv", "is empty"]),
    "csv of blank lines": (csv("\n\n \n"), ["data.csv", "no lines"]),
    "csv header alone": (csv("a,b\n"), ["data.csv", "a header and no samples"]),
    "csv text among numbers": (
        csv("a,b,c\n1,2,0\n1,two,1\n"),
        ["data.csv:3", "column 'b'", "'two' is not a number"],
    ),
    "csv text without header": (
        csv("1,2,0\n1,two,1\n"),
        ["data.csv:2", "column 1", "'two'"],
    ),
    "csv text in the first row": (
        csv("NA,2,0\n1,2,1\n"),
        ["data.csv:1", "column 0", "'NA'", "names the columns only if no"],
    ),
    "csv empty cell in the first row": (
        csv("1,,0\n1,2,1\n"),
        ["data.csv:1", "column 1", "empty"],
    ),
    "csv text in the first row where no names are": (
        csv("NA,2,0\n1,2,1\n", header="no"),
        ["data.csv:1", "column 0", "inputs must be numbers"],
    ),
    "csv column names count the target": (
        csv("y,a\n0,1\n0,x\n", target="y"),
        ["data.csv:3", "column 'a'", "'x'"],
    ),
    "csv empty cell": (csv("a,b,c\n1,,0\n"), ["data.csv:2", "column 'b'", "empty"]),
    "csv decimal comma": (
        csv("a;b;c\n1;2,5;0\n", delimiter=";"),
        ["data.csv:2", "column 'b'", "'2,5'", "decimal comma: write 2.5"],
    ),
    "csv grouped digits": (csv("a,b\n1,0\n1_000,1\n"), ["data.csv:3", "'a'", "'1_000'"]),
    "csv NaN": (csv("a,b\n1,0\n\nnan,1\n"), ["data.csv:4", "column 'a'", "nan"]),
    "csv infinite": (csv("a,b\n-inf,0\n"), ["data.csv:2", "column 'a'", "-inf"]),
    "csv overflow": (csv("a,b\n1e999,0\n"), ["data.csv:2", "column 'a'", "inf"]),
    "csv short row": (csv("a,b,c\n1,2,0\n1,2\n"), ["data.csv:3", "2 columns", "expected 3"]),
    "csv long row": (csv("1,2,0\n1,2,3,0\n"), ["data.csv:2", "4 columns", "expected 3"]),
    "csv one column": (csv("1;2;0\n"), ["data.csv:1", "one column", "','", "'1;2;0'"]),
    "csv no such target": (
        csv("a,label\n1,0\n", target="lable"),
        ["data.csv:1", "no columns named 'lable'", "did you mean 'label'"],
    ),
    "csv ambiguous target": (csv("a,a\n1,0\n", target="a"), ["data.csv:1", "2 columns named"]),
    "csv target position": (csv("1,2\n", target=2), ["data.csv:1", "no column 2", "0 to 1"]),
    "csv not UTF-8": (
        csv(b"a,b\n1,0\n1,\xe9\n"),
        ["data.csv:3", "not UTF-8", "0xe9", "byte 3"],
    ),
    "csv UTF-16": (csv("a,b\n1,0\n".encode("utf-16")), ["data.csv", "UTF-16", "iconv"]),
    "csv gzip": (csv(gzip.compress(b"a,b\n1,0\n")), ["data.csv", "gzip", "unpack"]),
    "csv open quote": (
        csv('a,b\n"1,0\n1,0\n'),
        ["data.csv:3", 'quote (") of line 2 is never closed'],
    ),
    "csv quote in a cell": (
        csv('a,b\n"1"5,0\n'),
        ["data.csv:2", "after a closing quote", "delimiter another one"],
    ),
    "csv endless cell": (
        csv("a,b\n" + "1" * 200_000 + ",0\n"),
        ["data.csv:2", "131,072 characters", "never closed"],
    ),
    "csv endless line": (csv("1," * (9 * 2**20)), ["data.csv:1", "a line of more than"]),
    "csv zero byte": (csv("a,b\n1,0\n1\0,0\n"), ["data.csv:3", "column 'a'", "not a number"]),
    "csv negative class": (
        csv("a,b\n1,0\n1,-1\n", target_kind="class"),
        ["data.csv:3", "column 'b'", "class -1"],
    ),
    "csv class with a fraction": (
        csv("a,b\n1,0\n1,0.5\n", target_kind="class"),
        ["data.csv:3", "column 'b'", "class 0.5", "whole number"],
    ),
    "csv name among numbers": (
        csv("a,b\n1,0\n1,?\n"),
        ["data.csv:3", "column 'b'", "'?'", "other targets are"],
    ),
    "csv names where values are asked": (
        csv("a,b\n1,x\n", target_kind="values"),
        ["data.csv:2", "column 'b'", "'x' is not a number"],
    ),
    "csv empty name": (csv("a,b\n1,x\n1, \n"), ["data.csv:3", "column 'b'", "empty"]),
    "csv target not finite": (csv("a,b\n1,1.5\n1,nan\n"), ["data.csv:3", "column 'b'", "nan"]),
}
