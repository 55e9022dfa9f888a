"""Paths from clients: regular files inside the roots; errors reveal nothing outside them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from dbp.data_roots import DataRoots
from dbp.errors import InvalidSpec
from dbp.job.spec.paths import check_paths


def refusal(path: str, roots: list[Path]) -> str:
    """Return why a spec that names this file is refused; "" if it is not."""
    reader = {"kind": "npz", "path": path}
    try:
        check_paths({"data": {"train": reader}}, DataRoots.of(roots))
    except InvalidSpec as error:
        (violation,) = error.violations
        assert violation.path == "data.train.path"
        return violation.message
    return ""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "x.npy").write_text("x")
    (folder / "sub" / "y.npy").write_text("y")
    (folder / "inside").symlink_to("sub/y.npy")
    (folder / "outside").symlink_to("../secret")
    (folder / "way-out").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "z").write_text("z")
    return folder


@pytest.mark.parametrize(
    "name", ["x.npy", "sub/y.npy", "sub/../x.npy", "./x.npy", "inside", "sub//y.npy"]
)
def test_regular_files_inside_the_root_pass(root: Path, name: str) -> None:
    assert refusal(f"{root}/{name}", [root]) == ""


INSIDE_BUT_REFUSED = [
    ("sub", "is a folder"),
    ("", "is a folder"),
    ("pipe", "is no regular file"),
    ("loop", "Too many levels of symbolic links"),
    ("none", "No such file"),
    ("x.npy/y", "Not a directory"),
]


@pytest.mark.parametrize(("name", "message"), INSIDE_BUT_REFUSED)
def test_only_regular_files_are_accepted(root: Path, name: str, message: str) -> None:
    assert message in refusal(f"{root}/{name}", [root])


OUTSIDE = [
    "../secret",
    "outside",
    "way-out/secret",
    "sub/../../secret",
    "../root-2/z",
    "../none",
    "way-out/none",
    "..",
    "../../../../../../../../etc/passwd",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_is_reached_and_its_existence_is_not_reported(
    root: Path, name: str
) -> None:
    message = refusal(f"{root}/{name}", [root])

    assert f"must lie inside a folder that the service may read ({root})" in message
    assert "dbp serve --data-root FOLDER" in message
    through_link = name in ("outside", "way-out/secret", "way-out/none")
    assert ("through a symbolic link" in message) == through_link


FORMS = [
    "", "x.npy", "./x.npy", "../x.npy", "~/x.npy", "~root/x", "file:///etc/passwd",
    "FILE:/etc/passwd", "http://h/x", "https:x", "s3://b/k", "C:\\x", "c:/x", "/a\\..\\b",
    "\\\\host\\share", "/a\0b", "/a\nb", "/a\x1b[0m", "/a\x7f", "/" + "a" * 5000, "$(id)",
    "-o", "%2e%2e/x", " /x", "data:text/plain,x",
]  # fmt: skip


@pytest.mark.parametrize("path", FORMS)
def test_only_plain_absolute_paths_are_looked_up(root: Path, path: str) -> None:
    assert re.match(r"must (have|hold|be) ", refusal(path, [root]))


DECODED_NOWHERE = [
    "/%2e%2e/etc/passwd", "/..%2fetc/passwd", "/%252e%252e/secret", "/~/x", "/$HOME/x",
    "/${HOME}", "//etc/passwd", "/./etc/passwd", "/../etc/passwd", "/proc/self/mem",
    "/dev/zero", "/dev/stdin", "/proc/self/root/etc/passwd", "/proc/self/cwd/x",
    "/proc/1/root/etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("path", DECODED_NOWHERE)
def test_nothing_is_expanded_or_decoded(root: Path, path: str) -> None:
    message = refusal(path, [root])

    assert message.startswith("must lie inside a folder that the service may read")


def test_without_roots_nothing_is_allowed(root: Path) -> None:
    assert "none is set" in refusal(str(root / "x.npy"), [])


def test_a_root_may_be_a_symbolic_link_itself(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)

    assert refusal(str(root / "x.npy"), [link]) == ""
    assert refusal(str(link / "x.npy"), [link]) == ""
    assert refusal(str(link / "x.npy"), [root]) == ""


def test_all_file_options_of_a_spec_are_judged_by_their_paths(
    root: Path, document: dict[str, Any]
) -> None:
    document["data"] = {
        "train": {"kind": "npy", "inputs": str(root / "x.npy"), "targets": "/etc/passwd"},
        "validation": {"kind": "csv", "path": "http://h/x"},
    }
    with pytest.raises(InvalidSpec) as caught:
        check_paths(document, DataRoots.of([root]))

    assert [v.path for v in caught.value.violations] == [
        "data.train.targets",
        "data.validation.path",
    ]


def test_a_spec_inside_the_roots_passes(root: Path, document: dict[str, Any]) -> None:
    path = str(root / "x.npy")
    document["data"] = {"train": {"kind": "npy", "inputs": path, "targets": path}}

    check_paths(document, DataRoots.of([root.parent / "root-2", root]))


@pytest.fixture
def parts(root: Path) -> Path:
    for number in range(3):
        (root / f"part-{number}.npz").write_text("x")
    return root


def spec_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    return document | {"data": {"train": {"kind": "npz", "path": path}}}


def test_a_pattern_inside_a_root_passes(parts: Path, document: dict[str, Any]) -> None:
    check_paths(spec_of(document, f"{parts}/part-*.npz"), DataRoots.of([parts]))
    check_paths(spec_of(document, f"{parts}/s*/y.*"), DataRoots.of([parts]))
    check_paths(spec_of(document, f"{parts}/s*/../part-?.npz"), DataRoots.of([parts]))


@pytest.mark.parametrize(
    "pattern", ["way-*/secret", "way-*/secre?", "*/secre?", "s*/../../secre?", "way-*/none*"]
)
def test_wildcards_in_folders_do_not_follow_links_out_of_the_roots(
    parts: Path, document: dict[str, Any], pattern: str
) -> None:
    with pytest.raises(InvalidSpec, match="no file matches"):
        check_paths(spec_of(document, f"{parts}/{pattern}"), DataRoots.of([parts]))


@pytest.mark.parametrize(
    "pattern", ["../*", "../secre?", "way-out/*", "sub/../../root-2/z*", "../none/*", "outsid?"]
)
def test_a_pattern_leads_nowhere_outside(
    parts: Path, document: dict[str, Any], pattern: str
) -> None:
    with pytest.raises(InvalidSpec, match="must lie inside a folder that the service may read"):
        check_paths(spec_of(document, f"{parts}/{pattern}"), DataRoots.of([parts]))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("part-[7-9].npz", "no file matches"),
        ("none/x-*", "No such file"),
        ("su?", "is a folder"),
    ],
)
def test_a_pattern_that_matches_no_regular_file_is_refused(
    parts: Path, document: dict[str, Any], pattern: str, message: str
) -> None:
    with pytest.raises(InvalidSpec, match=message):
        check_paths(spec_of(document, f"{parts}/{pattern}"), DataRoots.of([parts]))
