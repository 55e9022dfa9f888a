from __future__ import annotations

from pathlib import Path

import pytest

from dbp import cores


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        # A limit on a group above, as systemd and Slurm set them.
        (
            "0::/job/step\n",
            {"job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"},
            2.0,
        ),
        # A container that sees only itself, whatever its path outside is.
        ("0::/../../docker/abc\n", {"cpu.max": "100000 100000"}, 1.0),
        (
            "4:memory:/m\n2:cpu,cpuacct:/job\n",
            {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        (
            "1:cpu:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("", {}, None),
    ],
)
def test_a_cgroups_share_of_time_is_found(
    tmp_path: Path, membership: str, files: dict[str, str], expected: float | None
) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    assert cores._cgroup_cores(tmp_path / "membership", tmp_path / "mount") == expected
