"""Checkpoints on disk: bit for bit, all or nothing, and damage found."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dbp.errors import InvalidFile
from dbp.train.state.checkpoint import FILES, MANIFEST, Checkpoint, CheckpointStore

SHAPES = {"0.weight": (2, 3), "0.bias": (2,), "1.running_mean": (0,)}


def make_store(folder: Path, keep: int = 3) -> CheckpointStore:
    return CheckpointStore(folder, SHAPES, "float32", keep=keep)


def make_checkpoint(step: int) -> Checkpoint:
    rng = np.random.default_rng(step)
    position: Any = {"figures": {"loss": 0.1 + step}, "best": None}
    return Checkpoint(
        step=step,
        position=position,
        vectors={
            "parameters": rng.standard_normal(8).astype(np.float32),
            "slot.m": rng.standard_normal(8).astype(np.float32),
            "best": np.array([1, np.inf, -0.0, 5e-324, 0, 0, 0, 2], np.float32),
        },
        spec_digest="f00d",
    )


def assert_same(found: Checkpoint | None, expected: Checkpoint) -> None:
    assert found is not None
    assert dataclasses.replace(found, vectors={}) == dataclasses.replace(expected, vectors={})
    assert list(found.vectors) == list(expected.vectors)
    for name, vector in expected.vectors.items():
        assert found.vectors[name].tobytes() == vector.tobytes()


def no_warning(text: str) -> None:
    raise AssertionError(text)


def test_a_checkpoint_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    store = make_store(tmp_path / "checkpoints")
    store.write(make_checkpoint(3), {"dbp.step": "3"})
    store.write(make_checkpoint(12), {})

    assert_same(store.newest(no_warning), make_checkpoint(12))
    assert_same(store.read(3), make_checkpoint(3))
    assert store.steps() == [3, 12]


def test_the_parameter_file_of_a_checkpoint_is_read_by_safetensors(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(1)
    path = make_store(tmp_path).write(checkpoint, {"dbp.job": "x"})

    tensors = load_file(path / "parameters.safetensors")

    flat = np.concatenate([tensors[name].ravel() for name in SHAPES])
    np.testing.assert_array_equal(flat, checkpoint.vectors["parameters"])


def test_only_the_newest_are_kept_and_foreign_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    store = make_store(tmp_path, keep=2)
    for step in (1, 2, 3, 10):
        store.write(make_checkpoint(step), {})

    assert store.steps() == [3, 10]
    store.discard()
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_step_written_again_replaces_the_older_one(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.write(make_checkpoint(5), {})
    again = dataclasses.replace(make_checkpoint(5), spec_digest="beef")
    store.write(again, {})

    assert_same(store.newest(no_warning), again)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-000000000005"]


class DeadError(BaseException):
    """Stands for kill -9: this process makes no system call any more."""


class SystemCalls:
    """Lets a number of calls that change a disk through, then none."""

    CHANGING = ("mkdir", "rename", "replace", "unlink", "rmdir", "symlink", "fsync")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.left = allowed
        for name in self.CHANGING:
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if self.left <= 0:
                self.left = -1
                raise DeadError
            self.left -= 1
            return call(*arguments, **options)

        return wrapper


def killed_at_every_call(
    monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None], act: Callable[[], object]
) -> Iterator[int]:
    """Do something again and again, killed one system call later each time."""
    for allowed in range(1000):
        prepare()
        with monkeypatch.context() as patch:
            calls = SystemCalls(patch, allowed)
            with contextlib.suppress(DeadError):
                act()
        yield allowed
        if calls.left >= 0:
            return
    raise AssertionError("never finished")


@pytest.mark.parametrize("best", [False, True])
def test_a_kill_at_any_system_call_leaves_a_sound_checkpoint_of_a_step_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: bool
) -> None:
    folder = tmp_path / "checkpoints"
    old = make_checkpoint(5)
    new = dataclasses.replace(make_checkpoint(6), step=5)

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        make_store(folder, keep=1).write(old, {}, best=best)

    kills = killed_at_every_call(
        monkeypatch, prepare, lambda: make_store(folder, keep=1).write(new, {}, best=best)
    )
    for _ in kills:
        found = make_store(folder).newest(no_warning)
        assert found is not None
        assert_same(
            found, new if found.vectors["slot.m"][0] == new.vectors["slot.m"][0] else old
        )
        assert_same(make_store(folder).read(5), found)
        make_store(folder, keep=1).write(make_checkpoint(9), {}, best=True)
        assert sorted(entry.name for entry in folder.iterdir()) == ["best", "step-000000000009"]


def test_a_kill_while_a_step_is_written_again_after_a_kill_leaves_a_sound_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    old, newer, newest = (
        dataclasses.replace(make_checkpoint(number), step=5) for number in (5, 6, 7)
    )

    def prepare() -> None:  # as a kill between the first and the second rename leaves it
        shutil.rmtree(folder, ignore_errors=True)
        make_store(folder).write(newer, {}).rename(tmp_path / "kept")
        path = make_store(folder).write(old, {})
        (tmp_path / "kept").rename(path.with_name(path.name + ".newer"))
        assert_same(make_store(folder).newest(no_warning), newer)

    for _ in killed_at_every_call(
        monkeypatch, prepare, lambda: make_store(folder).write(newest, {})
    ):
        found = make_store(folder).newest(no_warning)
        assert found is not None
        values = [state.vectors["slot.m"].tobytes() for state in (newer, newest)]
        assert found.vectors["slot.m"].tobytes() in values


def test_a_kill_while_older_checkpoints_are_removed_damages_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        for step in (1, 2, 3):
            make_store(folder).write(make_checkpoint(step), {})

    def act() -> None:
        make_store(folder, keep=1).write(make_checkpoint(4), {})
        make_store(folder).discard()

    for _ in killed_at_every_call(monkeypatch, prepare, act):
        for step in make_store(folder).steps():
            assert_same(make_store(folder).read(step), make_checkpoint(step))


def test_the_same_state_of_a_step_is_not_written_again(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    path = store.write(make_checkpoint(5), {})
    before = {name: (path / name).stat().st_ino for name in FILES}
    later = dataclasses.replace(
        make_checkpoint(5), position={**make_checkpoint(5).position, "seconds": 7.0}
    )

    store.write(later, {}, best=True)

    assert {name: (path / name).stat().st_ino for name in FILES} == before
    assert (tmp_path / "best").readlink() == Path(path.name)


def test_a_damaged_checkpoint_of_the_same_state_is_written_again(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    path = store.write(make_checkpoint(5), {})
    (path / "state.safetensors").write_bytes(b"")

    store.write(make_checkpoint(5), {})

    assert_same(store.newest(no_warning), make_checkpoint(5))


def test_a_damaged_later_checkpoint_does_not_cause_removal_of_a_new_one(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep=1)
    (store.write(make_checkpoint(20), {}) / MANIFEST).write_text("{}")

    store.write(make_checkpoint(8), {})

    assert_same(store.newest(lambda text: None), make_checkpoint(8))


def test_the_run_folder_is_synced_when_the_first_checkpoint_makes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "fsync", record)
    make_store(tmp_path / "run" / "checkpoints").write(make_checkpoint(1), {})

    assert str(tmp_path / "run") in synced


def test_a_deleted_run_folder_is_not_made_again_by_a_checkpoint(tmp_path: Path) -> None:
    """Its state folder was deleted with it, and would come back with the wrong mode."""
    store = make_store(tmp_path / "state" / "run" / "checkpoints")

    with pytest.raises(FileNotFoundError):
        store.write(make_checkpoint(1), {})

    assert not (tmp_path / "state").exists()


def test_newest_is_none_without_checkpoints(tmp_path: Path) -> None:
    assert make_store(tmp_path / "nowhere").newest(no_warning) is None


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_every_flipped_byte_and_every_cut_is_found(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path)
    store.write(make_checkpoint(1), {})
    path = store.write(make_checkpoint(2), {}) / name
    content = path.read_bytes()
    # Padding between the tokens of a manifest is the one thing that may change.
    damaged = [
        content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        for at in range(0, len(content), 3)
    ]
    damaged += [content[:size] for size in range(0, len(content), 7)]

    for data in damaged:
        path.write_bytes(data)
        warnings: list[str] = []
        found = store.newest(warnings.append)
        if not warnings:
            assert_same(found, make_checkpoint(2))
            assert name == MANIFEST
            continue
        assert_same(found, make_checkpoint(1))
        assert str(path.parent) in warnings[0]
        assert "an older checkpoint is used" in warnings[0]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_found(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path)
    (store.write(make_checkpoint(2), {}) / name).unlink()

    with pytest.raises(InvalidFile, match=r"No such file"):
        store.read(2)


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path).write(make_checkpoint(2), {})
    other = CheckpointStore(tmp_path, {"0.weight": (8,)}, "float32", keep=1)

    with pytest.raises(InvalidFile, match="those of another model"):
        other.read(2)


WRITER = """
import sys
from pathlib import Path
from tests.train.state.test_checkpoint import make_checkpoint, make_store

store = make_store(Path(sys.argv[1]))
for step in range(1, 100_000):
    store.write(make_checkpoint(step), {})
    print(step, flush=True)
"""


def test_a_writer_that_is_killed_leaves_the_newest_it_had_finished(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.05)))
            process.send_signal(signal.SIGKILL)
            steps = process.stdout.read().split()
        finished = int(steps[-1]) if steps else 1

        found = make_store(folder).newest(no_warning)

        assert found is not None
        assert found.step in (finished, finished + 1)
        assert_same(found, make_checkpoint(found.step))
        make_store(folder).write(make_checkpoint(found.step + 1), {})
        assert not [entry for entry in folder.iterdir() if entry.name.startswith(".")]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tests.train.state.test_checkpoint import make_checkpoint, make_store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    make_store(Path(sys.argv[1])).write(make_checkpoint(2), {})
except OSError as error:
    print(error.strerror)
"""


def test_a_full_disk_is_an_error_and_the_older_one_stays(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep=1)
    store.write(make_checkpoint(1), {})

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.strip() == "File too large"
    assert_same(store.newest(no_warning), make_checkpoint(1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-000000000001"]
    shutil.rmtree(tmp_path)


def test_the_best_checkpoint_stays_and_is_linked(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep=2)
    for step in range(1, 8):
        store.write(make_checkpoint(step), {}, best=step in (1, 3))

    assert store.steps() == [3, 6, 7]
    assert (tmp_path / "best").readlink() == Path("step-000000000003")
    assert (tmp_path / "best" / "parameters.safetensors").is_file()
    newest = store.newest(print)
    assert newest is not None
    assert newest.step == 7
    store.discard()
    assert not tmp_path.exists()
