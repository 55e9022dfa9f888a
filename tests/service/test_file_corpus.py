"""Bad paths and malformed files: each refused with its field, at once, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.data.bad_file_cases import CASES
from tests.deadline import DEADLINE
from tests.service.file_corpus import PATHS

MAX_SECONDS = 1.0
MAX_BYTES = 64 * 2**20


@pytest.fixture(scope="module")
def refusals(
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[str, str, str, float, int]]:
    """How the check of a service refuses each: name, code, message, seconds, bytes."""
    folder = tmp_path_factory.mktemp("corpus")
    done = subprocess.run(
        [sys.executable, "-m", "tests.service.file_corpus", str(folder)],
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [
        (name, code, text, cpu, size) for name, code, text, cpu, size in json.loads(done.stdout)
    ]


def test_the_corpus_is_large_enough(
    refusals: list[tuple[str, str, str, float, int]],
) -> None:
    assert len(PATHS) >= 60
    assert len(CASES) >= 40
    assert len(refusals) == len(PATHS) + len(CASES)


def test_each_is_refused_with_the_field(
    refusals: list[tuple[str, str, str, float, int]],
) -> None:
    for name, code, message, _, _ in refusals:
        assert code == "INVALID_ARGUMENT", name
        assert "data.train" in message, name
        assert "Traceback" not in message, name


def test_none_takes_long_or_much_memory(
    refusals: list[tuple[str, str, str, float, int]],
) -> None:
    for name, _, _, seconds, grown in refusals:
        assert seconds < MAX_SECONDS, name
        assert grown < MAX_BYTES, name
