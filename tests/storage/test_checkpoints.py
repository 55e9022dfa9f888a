"""The newest sound checkpoint, found without loading tensors."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest

from dbp.storage.checkpoints import (
    FILES,
    MANIFEST,
    NewestCheckpoint,
    digest_of,
    newest_sound,
)


def checkpoint(folder: Path, step: int, suffix: str = "", *, padding: bytes = b"") -> Path:
    path = folder / f"step-{step:012d}{suffix}"
    path.mkdir(parents=True)
    files = {}
    for name in FILES:
        content = f"{name} {step}".encode() + padding
        (path / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files[name] = {"bytes": len(content), "sha256": digest}
    manifest = {"format": 1, "step": step, "files": files}
    (path / MANIFEST).write_text(json.dumps(manifest | {"sha256": digest_of(manifest)}))
    return path


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert newest_sound(tmp_path / "absent") == NewestCheckpoint()
    (tmp_path / ".writing-1.0").mkdir()
    (tmp_path / "best").symlink_to("step-000000000009")
    assert newest_sound(tmp_path) == NewestCheckpoint()


def test_the_newest_is_found_by_step(tmp_path: Path) -> None:
    for step in (20, 100, 9):
        checkpoint(tmp_path, step)

    assert newest_sound(tmp_path) == NewestCheckpoint(100)


def test_a_replacement_counts(tmp_path: Path) -> None:
    checkpoint(tmp_path, 20)
    checkpoint(tmp_path, 30, ".newer")

    assert newest_sound(tmp_path) == NewestCheckpoint(30)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, name: str, damage: str) -> None:
    checkpoint(tmp_path, 20)
    path = checkpoint(tmp_path, 30) / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        content[-1] ^= 1
        path.write_bytes(content)

    found = newest_sound(tmp_path)

    assert found.step == 20
    (sentence,) = found.damaged
    assert sentence.startswith(f"{path}: ")


def test_a_large_checkpoint_is_verified_in_little_memory(tmp_path: Path) -> None:
    checkpoint(tmp_path, 20, padding=bytes(8 << 20))

    tracemalloc.start()
    try:
        assert newest_sound(tmp_path).step == 20
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
