"""Every option refuses what its type and limits exclude: code, field, time and memory."""

from __future__ import annotations

import time

import pytest

from dbp.errors import InvalidSpec
from dbp.job.spec.resolve import resolve
from tests.cost import SECONDS, cheap
from tests.job.spec.bad_specs import Case, base, cases

CASES = cases()


def test_the_corpus_is_large_and_its_base_is_valid() -> None:
    assert len(CASES) >= 300
    resolve(base())


@pytest.mark.parametrize("part", range(8))
def test_a_bad_spec_is_refused_with_its_field(part: int) -> None:
    wrong: list[str] = []
    slow: list[str] = []
    with cheap(seconds=60):
        for case in CASES[part::8]:
            begin = time.process_time()
            wrong += _problems(case)
            if time.process_time() - begin > SECONDS:
                slow.append(case.name)

    assert not wrong
    assert not slow


def _problems(case: Case) -> list[str]:
    try:
        resolve(case.document)
    except InvalidSpec as error:
        paths = [violation.path for violation in error.violations]
        if not any(path.startswith(case.path) for path in paths):
            return [f"{case.name}: expected {case.path}, got {paths[:3]}"]
        long = [violation for violation in error.violations if len(violation.message) > 2_000]
        return [f"{case.name}: a message of {len(long[0].message)} characters"] if long else []
    return [f"{case.name}: accepted"]
