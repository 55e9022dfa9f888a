"""Compiled sources: made once, kept privately, and numpy where that is impossible."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dbp.optim.adam_kernel import SOURCE
from dbp.optim.compiled import COMPILERS, SWITCH, NotCompiledError, load

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C compiler"),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled libraries, not made yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(SWITCH, raising=False)
    return tmp_path / "cache" / "dbp" / "kernels"


def test_a_source_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(load(SOURCE), "adam_float32")
    [library] = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700

    monkeypatch.setenv("PATH", "/nowhere")
    assert hasattr(load(SOURCE), "adam_float64")
    assert list(cache.iterdir()) == [library]


def test_another_source_is_another_library(cache: Path, tmp_path: Path) -> None:
    load(SOURCE)
    changed = tmp_path / SOURCE.name
    changed.write_text(SOURCE.read_text() + "\nint added(void) { return 7; }\n")

    assert load(changed).added() == 7
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("switch", "DBP_KERNELS=numpy"),
        ("compiler", "no C compiler"),
        ("source", "error"),
        ("killed", "exit status|killed|gcc|cc"),
        ("open", "closed to other users"),
        ("link", "symbolic link"),
        ("file", "File exists|Not a directory"),
        ("damaged", "too short|invalid ELF"),
    ],
)
def test_what_cannot_be_compiled_or_trusted_is_not_loaded(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, text: str
) -> None:
    source = SOURCE
    match fault:
        case "switch":
            monkeypatch.setenv(SWITCH, "numpy")
        case "compiler":
            monkeypatch.setenv("PATH", "/nowhere")
        case "source":
            source = tmp_path / "broken.c"
            source.write_text("int broken(")
        case "killed":
            (tmp_path / "bin").mkdir()
            fake = tmp_path / "bin" / "cc"
            fake.write_text('#!/bin/sh\necho half > "$8"\nkill -9 $$\n')
            fake.chmod(0o700)
            monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + os.defpath)
        case "open":
            cache.mkdir(parents=True)
            cache.chmod(0o777)
        case "link":
            cache.parent.mkdir(parents=True)
            (tmp_path / "elsewhere").mkdir(0o700)
            cache.symlink_to(tmp_path / "elsewhere")
        case "file":
            (tmp_path / "cache").write_text("")
        case "damaged":
            load(source)
            [library] = cache.iterdir()
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
            (tmp_path / "other" / "dbp").mkdir(parents=True)
            (tmp_path / "other" / "dbp" / "kernels").mkdir(0o700)
            (tmp_path / "other" / "dbp" / "kernels" / library.name).write_bytes(b"")

    with pytest.raises(NotCompiledError, match=text):
        load(source)
    assert fault == "damaged" or not any(cache.parent.glob("kernels/*"))
