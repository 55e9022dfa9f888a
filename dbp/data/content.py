"""Recognize the format of a file by its content, for messages and `dbp predict`.

It reads the first bytes, and the list of members of a zip archive.
"""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from dbp.data import signatures, text_encoding
from dbp.data.file import DataFile, gunzip
from dbp.data.quoting import hint
from dbp.data.zip_directory import check_directory
from dbp.errors import InvalidData

HEAD_BYTES: Final = 4096

# Readers of text, which differ in the delimiter alone.
TEXT_KINDS: Final = ("csv", "tsv")

_READABLE: Final = {
    "csv": "comma-separated text",
    "tsv": "tab-separated text",
    "npy": "a NumPy array (.npy)",
    "npz": "a NumPy archive (.npz)",
    "idx": "an IDX file",
    "parquet": "a Parquet file",
    "hdf5": "an HDF5 file",
    "safetensors": "a safetensors file",
}


_CUT: Final = "was it cut in a download?"


@dataclass(frozen=True)
class Content:
    """The format of a file's content.

    ``name``: with its article. ``kind``: the reader of the format, "" if dbp has none.
    ``remedy``: how to make a file of it that dbp reads. ``is_sound``: whether that reader
    reads it as it is.
    """

    name: str
    kind: str = ""
    remedy: str = ""
    is_sound: bool = True


def check_content(file: DataFile, kind: str) -> None:
    """Raise InvalidData if the content is known and is not the format of reader ``kind``."""
    found = recognize(file)
    if found is None or found.kind == kind or {found.kind, kind} <= set(TEXT_KINDS):
        return
    raise InvalidData(
        f"{file.name}: not {_READABLE[kind]}: it looks like {found.name}; {found.remedy}"
    )


def recognize(file: DataFile) -> Content | None:
    """Return the format of a file's content, None where it is unknown."""
    head = file.read(0, HEAD_BYTES)
    kind = _readable_kind(file, head)
    if kind:
        return _readable(kind)
    return _binary(file, head) or _markup(file.name, head) or _text(file.name, head)


def _readable(kind: str, name: str = "", option: str = "") -> Content:
    return Content(name or _READABLE[kind], kind, f'read it with kind = "{kind}"{option}')


def _readable_kind(file: DataFile, head: bytes) -> str:
    """Return the reader of a binary format that dbp reads, or ""."""
    if head.startswith(signatures.NPY):
        return "npy"
    if head.startswith(signatures.PARQUET) and _is_binary(file, head):
        return "parquet"
    if signatures.is_hdf5(head):
        return "hdf5"
    if signatures.is_idx(head):
        return "idx"
    if signatures.is_safetensors(head, file.size):
        return "safetensors"
    return ""


def _is_binary(file: DataFile, head: bytes) -> bool:
    """Return whether the file is not text; a header may begin with a signature's letters."""
    return not text_encoding.is_text(head) or file.read(file.size - 4, 4) == head[:4]


def _gzip(file: DataFile) -> Content:
    """Return the format of gzip data; for damaged data a reader names the place."""
    try:
        with gunzip(file) as content:
            head = content.read(4)
    except InvalidData:
        return Content("damaged gzip-compressed data", "idx", _CUT, is_sound=False)
    if signatures.is_idx(head):
        return _readable("idx")
    return Content("gzip-compressed data", remedy=_unpack(file.name, "gzip"))


def _zip(file: DataFile) -> Content:
    """Return the format of a zip archive, by the names in it."""
    path = file.name
    check_directory(file)
    try:
        with file.stream() as stream, zipfile.ZipFile(stream) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        return Content("a damaged zip archive", "npz", _CUT, is_sound=False)
    if any(name.endswith(".npy") for name in members):
        return _readable("npz")
    if any(name.startswith("xl/") for name in members):
        return Content("an Excel workbook (.xlsx)", remedy=_remedy(path, "excel"))
    if "mimetype" in members and "content.xml" in members:
        return Content("an OpenDocument spreadsheet (.ods)", remedy=_remedy(path, "excel"))
    if any(name.endswith("/data.pkl") for name in members):
        remedy = "save the tensors with safetensors.torch.save_file"
        return Content("a PyTorch file", remedy=remedy)
    held = hint(f" that holds {', '.join(members[:3])}") if members else ""
    return Content(f"a zip archive{held}", remedy=f"unpack it: unzip {shlex.quote(path)}")


# First bytes of formats that dbp does not read, their names, and the remedy: a sentence, or the
# function of pandas that reads the format ("excel": read_excel).
_BINARY: Final = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls)", "excel"),
    (b"ARROW1", "a Feather (Arrow) file", "read_feather"),
    (b"FEA1", "a Feather file", "read_feather"),
    (b"ORC", "an ORC file", "read_orc"),
    (b"SQLite format 3\0", "an SQLite database", "write the query's rows as CSV"),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file of version 5",
     "save it with -v7.3 and read it with kind = \"hdf5\""),
    (b"\x89PNG\r\n", "a PNG image", "save the pixels of all images as one .npy array"),
    (b"\xff\xd8\xff", "a JPEG image", "save the pixels of all images as one .npy array"),
)  # fmt: skip

_COMPRESSED: Final = (
    (b"BZh", "bzip2", "bzip2-compressed data"),
    (b"\xfd7zXZ\0", "xz", "xz-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd-compressed data"),
)


def _binary(file: DataFile, head: bytes) -> Content | None:
    """Return the format of binary data that dbp does not read."""
    path = file.name
    for magic, name, remedy in _BINARY:
        if head.startswith(magic) and _is_binary(file, head):
            return Content(name, remedy=_remedy(path, remedy))
    for magic, command, name in _COMPRESSED:
        if head.startswith(magic) and _is_binary(file, head):
            return Content(name, remedy=_unpack(path, command))
    if re.match(rb"\x80[\x02-\x05][\x95\x7d\x5d\x63\x28]", head):
        remedy = "it is never read, as reading one runs its code; save arrays with numpy.save"
        return Content("a Python pickle", remedy=remedy)
    if head.startswith(signatures.GZIP):
        return _gzip(file)
    if head.startswith(signatures.ZIP):
        return _zip(file)
    return None


def _remedy(path: str, how: str) -> str:
    """Return a sentence, or a line of Python with pandas if ``how`` is one of its functions."""
    if how == "excel":
        return "save the sheet as CSV (UTF-8) in the spreadsheet program, or: " + _python(
            path, "read_excel"
        )
    return f"convert it: {_python(path, how)}" if how.startswith("read_") else how


def _python(path: str, function: str, options: str = "") -> str:
    """Return a command that makes a CSV file with pandas."""
    source, target = (
        json.dumps(name, ensure_ascii=False)
        for name in (path, str(PurePath(path).with_suffix("")) + ".converted.csv")
    )
    code = f"import pandas; pandas.{function}({source}{options}).to_csv({target}, index=False)"
    return f"python -c {shlex.quote(code)}"


def _unpack(path: str, command: str) -> str:
    pure = PurePath(path)
    target = text_encoding.beside(path, "unpacked")
    if pure.suffix.lower() in (".gz", ".bz2", ".xz", ".zst"):
        target = str(pure.with_suffix(""))
    return f"unpack it: {command} -dc {shlex.quote(path)} > {shlex.quote(target)}"


_MARKUP: Final = (
    (rb"%PDF-", "a PDF document", "save its table as CSV"),
    (rb"(?i)<!doctype html|<html", "an HTML page",
     "was a login or an error page downloaded in place of the file?"),
    (rb"<\?xml", "an XML document", "save its rows as CSV"),
    (rb"version https://git-lfs", "a Git LFS pointer in place of the file",
     "fetch the file: git lfs pull"),
)  # fmt: skip


def _markup(path: str, head: bytes) -> Content | None:
    """Return the format of text that is no table, such as HTML or JSON."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, name, remedy in _MARKUP:
        if re.match(pattern, text):
            return Content(name, remedy=remedy)
    if re.match(rb"\{\s*\"", text):
        lines = re.match(rb"\{[^\n]*\}\s*\n\s*\{", text) is not None
        options, name = (", lines=True", "JSON lines") if lines else ("", "JSON")
        return Content(name, remedy=f"convert it: {_python(path, 'read_json', options)}")
    if re.match(rb"\[\s*(\{\s*\"|\[)", text):
        return Content("JSON", remedy=f"convert it: {_python(path, 'read_json')}")
    return None


def _text(path: str, head: bytes) -> Content | None:
    """Return the format of text, by its encoding, line ends and delimiter."""
    encoding = text_encoding.wide_encoding(head)
    if encoding:
        remedy = text_encoding.encoding_remedy(path, encoding)
        return Content(f"{encoding[:6]} text", remedy=remedy)
    if not text_encoding.is_text(head):
        return None
    if not text_encoding.is_utf8(head):
        remedy = text_encoding.eight_bit_remedy(path)
        return Content("text of another encoding than UTF-8", "csv", remedy, is_sound=False)
    if b"\r" in head.rstrip(b"\r") and b"\n" not in head:
        remedy = text_encoding.line_ends_remedy(path)
        return Content("text whose lines end by CR (old Macintosh)", remedy=remedy)
    return _readable(*_delimited(head))


def _delimited(head: bytes) -> tuple[str, str, str]:
    """Return a text's reader, its description, and the option it needs, by its first line."""
    line = head.splitlines()[0] if head.strip() else b""
    counts = {delimiter: line.count(delimiter.encode()) for delimiter in "\t,;|"}
    delimiter = max(counts, key=lambda delimiter: counts[delimiter])
    if not counts[delimiter]:
        return "csv", "text", ""
    if delimiter in ";|":
        return "csv", f"text separated by {delimiter!r}", f', delimiter = "{delimiter}"'
    kind = "tsv" if delimiter == "\t" else "csv"
    return kind, _READABLE[kind], ""
