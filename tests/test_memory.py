from __future__ import annotations

from pathlib import Path

import pytest

from dbp.memory import usable_memory

MEMINFO = "MemTotal:       16384 kB\nMemFree: 1 kB\nSwapTotal:       1024 kB\n"
MIB = 2**20


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 17 * MIB),
        ("0::/job\n", {"memory.max": "max", "job/memory.max": str(4 * MIB)}, 4 * MIB),
        ("0::/job\n", {"job/memory.max": str(99 * MIB)}, 17 * MIB),
        ("3:memory:/a/b\n", {"memory/a/memory.limit_in_bytes": str(2 * MIB)}, 2 * MIB),
        ("3:memory:/\n", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, 17 * MIB),
        ("", {}, 17 * MIB),
    ],
)
def test_the_smallest_limit_counts(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    found = usable_memory(tmp_path / "meminfo", tmp_path / "membership", tmp_path / "mount")

    assert found == expected


def test_memory_is_unknown_without_proc(tmp_path: Path) -> None:
    assert usable_memory(tmp_path / "none", tmp_path / "none", tmp_path) is None
