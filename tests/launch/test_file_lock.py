from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dbp.launch.file_lock import is_held, take


def test_a_lock_is_held_by_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)

    lock = take(path)

    assert lock is not None
    assert is_held(path)
    assert is_held(path), "looking at it does not take it"
    assert take(path, patience=0.0) is None
    os.close(lock)
    assert not is_held(path)
    again = take(path)
    assert again is not None
    os.close(again)


def test_a_lock_passes_to_another_process_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = take(path)
    assert lock is not None
    heir = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock]
    )

    os.close(lock)

    assert is_held(path), "from one moment to the next, without a gap"
    heir.kill()
    heir.communicate()
    assert not is_held(path)
