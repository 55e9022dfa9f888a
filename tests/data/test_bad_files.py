"""Malformed files are refused with InvalidData that names the file and the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.errors import InvalidData
from tests.data.bad_file_cases import CASES


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_with_its_name_and_fault(tmp_path: Path, case: str) -> None:
    make, fragments = CASES[case]
    reader = make(tmp_path)

    with pytest.raises(InvalidData) as caught:
        reader.open()

    message = str(caught.value)
    assert str(tmp_path) in message
    for fragment in fragments:
        assert fragment in message
