"""The benchmark of inference runs; its figures are not judged here."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.deadline import DEADLINE


def test_both_tables_are_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.inference", "--rounds", "1", "--calls", "10",
         "--clients", "2", "--seconds", "0.1"],
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    for title in ("one caller", "2 callers"):
        assert title in done.stdout
    rows = re.findall(r"^(?:bare unary method|ModelInfer) +(.*)$", done.stdout, re.MULTILINE)
    assert [len(row.split()) for row in rows] == [3, 3, 2, 2]
    assert all(float(number) > 0 for row in rows for number in row.split())
