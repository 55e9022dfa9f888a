"""Bad paths, files and long texts: each refused with its field, at once, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.data.bad_file_cases import CASES
from tests.deadline import DEADLINE
from tests.hostile_text import faults
from tests.service.file_corpus import PATHS

MAX_SECONDS = 1.0
MAX_BYTES = 64 * 2**20
LONG_TEXTS = 200
# A message names up to 20 problems; each quotes the user's own text in part.
MAX_MESSAGE = 5_000
# In the header of an answer: see ``dbp.rpc.status``.
MAX_ANSWER = 1_200
MAX_DETAILS = 5_000


class Refusal(NamedTuple):
    """How the check of a service refuses a case; ``details``: bytes beside the answer."""

    name: str
    field: str
    code: str
    message: str
    answer: str
    details: int
    seconds: float
    grown: int


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> list[Refusal]:
    folder = tmp_path_factory.mktemp("corpus")
    done = subprocess.run(
        [sys.executable, "-m", "tests.service.file_corpus", str(folder)],
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Refusal(*found) for found in json.loads(done.stdout)]


def test_the_corpus_is_large_enough(refusals: list[Refusal]) -> None:
    assert len(PATHS) >= 60
    assert len(CASES) >= 40
    assert len(refusals) >= len(PATHS) + len(CASES) + LONG_TEXTS


def test_each_is_refused_with_the_field(refusals: list[Refusal]) -> None:
    for found in refusals:
        assert found.code == "INVALID_ARGUMENT", found.name
        assert found.field in found.message, found.name
        assert "Traceback" not in found.message, found.name


def test_none_takes_long_or_much_memory(refusals: list[Refusal]) -> None:
    for found in refusals:
        assert found.seconds < MAX_SECONDS, found.name
        assert found.grown < MAX_BYTES, found.name


def test_each_answer_is_short_and_printable(refusals: list[Refusal]) -> None:
    for found in refusals:
        assert len(found.message) < MAX_MESSAGE, found.name
        assert len(found.answer.encode()) <= MAX_ANSWER, found.name
        assert found.details < MAX_DETAILS, found.name
        assert not faults(found.answer, allowed="\n"), found.name
