"""Compiled sources: for one process, and an error that says why where it is impossible."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

from dbp.optim import compiled
from dbp.optim.adam_kernel import SOURCE
from dbp.optim.compiled import COMPILERS, SWITCH, NotCompiledError, load
from tests.deadline import until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C compiler"),
]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.delenv(SWITCH, raising=False)
    return tmp_path / "temporary"


def compiler(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a compiler first on PATH."""
    (folder / "bin").mkdir()
    fake = folder / "bin" / "cc"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_a_source_is_compiled_and_nothing_is_left(temporary: Path) -> None:
    library = load(SOURCE)

    assert hasattr(library, "adam_float32")
    assert hasattr(library, "adam_float64")
    assert list(temporary.iterdir()) == []


def test_what_a_compiler_writes_in_another_encoding_does_no_harm(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = next(filter(None, map(shutil.which, COMPILERS)))
    script = f"printf 'warn\\351ing\\n' >&2; exec {real} \"$@\""
    compiler(tmp_path, script, monkeypatch)

    assert hasattr(load(SOURCE), "adam_float32")


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("while [ $1 != -o ]; do shift; done; echo half > $2; kill -9 $$", "exit code -9"),
        ("printf 'b\\351d\\n' >&2; exit 3", "exit code 3: b\N{REPLACEMENT CHARACTER}d"),
        ("while [ $1 != -o ]; do shift; done; echo half > $2", "too short|invalid ELF"),
        ("exit 0", "cannot open shared object file"),
    ],
    ids=["killed", "fails", "half a library", "no library"],
)
def test_a_compiler_that_fails_is_reported_and_leaves_nothing(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, text: str
) -> None:
    compiler(tmp_path, script, monkeypatch)

    with pytest.raises(NotCompiledError, match=text):
        load(SOURCE)
    assert list(temporary.iterdir()) == []


def test_a_compiler_that_hangs_is_ended_with_the_processes_it_has_started(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    compiler(tmp_path, f"sleep 60 & echo $! > {started}; wait", monkeypatch)
    monkeypatch.setattr(compiled, "SECONDS", 2.0)

    with pytest.raises(NotCompiledError, match="not done after 2 s"):
        load(SOURCE)
    number = int(started.read_text())
    until(lambda: not psutil.pid_exists(number) or ended(psutil.Process(number)))
    assert list(temporary.iterdir()) == []


def ended(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_without_a_compiler_a_source_a_folder_or_the_wish_there_is_none(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int broken(")
    with pytest.raises(NotCompiledError, match="error"):
        load(broken)
    with monkeypatch.context() as changed:
        changed.setenv(SWITCH, "numpy")
        with pytest.raises(NotCompiledError, match="DBP_KERNELS=numpy"):
            load(SOURCE)
    with monkeypatch.context() as changed:
        changed.setenv("PATH", "/nowhere")
        with pytest.raises(NotCompiledError, match="no C compiler"):
            load(SOURCE)
    temporary.rmdir()
    with pytest.raises(NotCompiledError, match="No such file"):
        load(SOURCE)
