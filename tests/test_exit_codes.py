from __future__ import annotations

import pytest

from dbp.exit_codes import exit_text


@pytest.mark.parametrize(
    ("returncode", "text"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-11, "killed by SIGSEGV"),
        (-99, "killed by signal 99"),
    ],
)
def test_an_exit_is_named_without_a_negative_number(returncode: int, text: str) -> None:
    assert exit_text(returncode) == text
