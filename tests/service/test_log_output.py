"""The log of a service: its fields, its formats, its files."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.errors import InvalidInput
from dbp.log_fields import log_fields
from dbp.service.log_output import JsonFormatter, LineFormatter, fields_of, set_up_log


def record(message: str, *values: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("dbp.jobs", logging.WARNING, "a.py", 1, message, values, None)
    vars(made).update(extra)
    return made


def failed() -> logging.LogRecord:
    made = record("job %s: it failed", "a-1")
    try:
        raise ValueError("no\n2026-01-01 INFO dbp: forged \x1b[31mred")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger without handlers, as in a new process."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    logger.handlers.clear()
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level = before, level


async def test_fields_come_from_the_task_the_call_and_the_message() -> None:
    assert fields_of(record("started")) == {}
    assert fields_of(record("job %s: lost", "a-1")) == {"job": "a-1"}
    with log_fields(job="b-1", attempt=2):
        with log_fields(request="f00d"):
            found = fields_of(record("slow", rank=3))
            task = asyncio.create_task(asyncio.sleep(0, fields_of(record("later"))))
        assert found == {"job": "b-1", "attempt": 2, "rank": 3, "request": "f00d"}
        assert await task == {"job": "b-1", "attempt": 2, "request": "f00d"}
        assert fields_of(record("after", rank=None)) == {"job": "b-1", "attempt": 2}
    assert fields_of(record("%s: %s", "x", "job")) == {}


def test_a_line_names_the_fields_that_its_message_does_not_have() -> None:
    with log_fields(job="a-1", attempt=2):
        line = LineFormatter().format(record("job %s: it waits", "a-1"))
        other = LineFormatter().format(record("it waits", rank=1))

    assert line.endswith(" WARNING dbp.jobs: job a-1: it waits [attempt=2]")
    assert other.endswith(" WARNING dbp.jobs: it waits [job=a-1 attempt=2 rank=1]")


def test_text_of_others_forges_no_line_and_no_color() -> None:
    line = LineFormatter().format(
        record("job %s: %s", "a-1", "x\n2026-01-01 INFO dbp: y\x1b[31m")
    )
    assert "\n" not in line
    assert "\x1b" not in line
    traceback = LineFormatter().format(failed())
    assert "\x1b" not in traceback
    assert all(row.startswith("  ") for row in traceback.split("\n")[1:])
    assert "ValueError: no" in traceback


def test_json_has_one_object_a_line_with_the_exception() -> None:
    with log_fields(attempt=1):
        line = JsonFormatter().format(failed())

    found = json.loads(line)
    assert "\n" not in line
    assert "\x1b" not in line
    assert found["time"].endswith("+00:00")
    assert {key: found[key] for key in ("level", "logger", "message", "job", "attempt")} == {
        "level": "warning", "logger": "dbp.jobs", "message": "job a-1: it failed", "job": "a-1",
        "attempt": 1,
    }  # fmt: skip
    assert "ValueError: no" in found["exception"]


def test_a_file_is_private_and_rotated_by_size(tmp_path: Path) -> None:
    path = tmp_path / "dbp.log"
    set_up_log("info", path, as_json=True, max_bytes=2_000)
    for number in range(200):
        logging.getLogger("dbp").info("number %d", number)

    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["dbp.log", *(f"dbp.log.{n}" for n in range(1, 6))]
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.stat().st_size <= 2_000
    assert json.loads(path.read_text().splitlines()[-1])["message"] == "number 199"


def test_a_file_that_was_moved_is_opened_again_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "dbp.log"
    reopen = set_up_log("warning", path, as_json=False)
    logging.getLogger("dbp").warning("first")
    path.rename(tmp_path / "old.log")
    logging.getLogger("dbp").warning("second")
    reopen()
    logging.getLogger("dbp").warning("third")

    assert "third" in path.read_text()
    assert "second" in (tmp_path / "old.log").read_text()
    assert "third" not in (tmp_path / "old.log").read_text()


def test_a_link_and_a_folder_that_is_absent_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in (tmp_path / "link", tmp_path / "absent" / "dbp.log"):
        with pytest.raises(InvalidInput, match="cannot be written"):
            set_up_log("info", path, as_json=False)
    assert not (tmp_path / "target").exists()
