"""Foreign text on a terminal: no control character survives, honest text does."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.printable import (
    is_printable,
    json_escaped,
    printable_line,
    printable_lines,
    printable_log_line,
    printable_output,
)
from tests.hostile_text import SEQUENCES, faults

HOSTILE = pytest.mark.parametrize("text", SEQUENCES.values(), ids=SEQUENCES.keys())
ANY_TEXT = st.text(st.one_of(st.characters(), st.sampled_from("\x1b[]0;m\x9b\x9d\x07\\\n\t")))
HONEST = "Größe 4 µm, é, 模型, مرحبا, שלום, 👩‍💻, [31m, \\x1b, 100%"


@HOSTILE
def test_hostile_text_becomes_harmless(text: str) -> None:
    around = f"before{text}after"

    assert not faults(printable_line(around))
    assert not faults(printable_log_line(around), "\t")
    assert not faults(printable_lines(around), "\n\t")
    assert not faults(printable_output(around), "\n\t")
    assert not faults(json_escaped(json.dumps(around, ensure_ascii=False)))
    assert not is_printable(around)


@given(ANY_TEXT)
def test_any_text_becomes_harmless_and_stays_so(text: str) -> None:
    line, lines = printable_line(text), printable_lines(text)

    assert not faults(line)
    assert is_printable(line)
    assert printable_line(line) == line
    assert not faults(lines, "\n\t")
    assert printable_lines(lines) == lines
    assert all(each.startswith("  ") for each in lines.split("\n")[1:] if each)


@given(ANY_TEXT)
def test_escaped_json_has_the_same_value(text: str) -> None:
    escaped = json_escaped(json.dumps(text, ensure_ascii=False))

    assert json.loads(escaped) == text
    assert not faults(escaped)


def test_honest_text_stays_as_it_is() -> None:
    for change in (printable_line, printable_log_line, printable_lines, printable_output):
        assert change(HONEST) == HONEST
    assert is_printable(HONEST)
    assert json_escaped(HONEST) == HONEST


def test_whole_sequences_disappear_and_single_controls_are_shown() -> None:
    assert printable_line("a\x1b[31mb\x1b]0;title\x07c") == "abc"
    assert printable_line("a\x07b\u202ec\x9b") == "a\\x07b\\u202ec\\x9b"


def test_tabs_and_line_breaks_follow_the_kind_of_text() -> None:
    text = "one\ttwo\r\nthree\nfour"

    assert printable_line(text) == "one two three four"
    assert printable_log_line(text) == "one\ttwo three four"
    assert printable_lines(text) == "one\ttwo\n  three\n  four"
    assert printable_output("one\ttwo\nthree\rfour") == "one\ttwo\nthree four"


@pytest.mark.parametrize("piece", ["\x1b]", "\x9d", "\x1b[", "\x1b[;", "\x1bP", "\r", "\x1b "])
def test_long_hostile_text_takes_linear_time(piece: str) -> None:
    began = time.process_time()

    for change in (printable_line, printable_log_line, printable_lines, printable_output):
        change(piece * 200_000)

    assert time.process_time() - began < 10  # quadratic time would be hours
