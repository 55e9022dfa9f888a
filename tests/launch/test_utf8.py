from __future__ import annotations

import pytest

from dbp.launch.utf8 import whole_end, whole_start

TEXT = "aé€😀"


@pytest.mark.parametrize("length", range(11))
def test_a_cut_text_ends_with_a_whole_character(length: int) -> None:
    data = TEXT.encode()[:length]

    end = whole_end(data)

    assert data[:end].decode() == TEXT[: len(data[:end].decode())]
    assert length - end < 4


@pytest.mark.parametrize("start", range(11))
def test_a_cut_text_begins_with_a_whole_character(start: int) -> None:
    data = TEXT.encode()[start:]

    assert TEXT.endswith(data[whole_start(data) :].decode())


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x80" * 9, b"\xe9 latin", b"abc\xff", b""])
def test_bytes_that_are_no_text_are_not_held_back(data: bytes) -> None:
    assert whole_end(data[:-1] + b"!") == max(1, len(data))
    assert whole_start(b"\x80" * 9) == 0
