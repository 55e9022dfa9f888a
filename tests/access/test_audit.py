"""The audit log: one JSON line a call, private, rotated, never in a caller's way."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from dbp.access.audit import FILES_KEPT, UNKNOWN_BURST, AuditLog
from dbp.access.principal import Principal
from dbp.access.roles import Role

ANN = Principal("ann", Role.SUBMITTER, "ipv4:127.0.0.1:9", "4f2c9a1b")


def lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_names_caller_method_job_origin_answer_and_request(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log")

    audit.write(ANN, ANN.origin, "/dbp.v1.JobService/CancelJob", "jobs/a-1", "OK", "r1")
    audit.write(
        None, "ipv4:10.0.0.1:7", "/dbp.v1.JobService/ListJobs", "", "UNAUTHENTICATED", "r2"
    )
    audit.close()

    first, second = lines(tmp_path / "audit.log")
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "caller": "ann", "role": "submitter", "token": "4f2c9a1b", "from": "ipv4:127.0.0.1:9",
        "method": "/dbp.v1.JobService/CancelJob", "resource": "jobs/a-1", "answer": "OK",
        "request": "r1",
    }  # fmt: skip
    assert (second["caller"], second["answer"]) == ("", "UNAUTHENTICATED")
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600


def test_it_is_appended_to_after_a_restart_and_rotated_within_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for start in range(0, 60, 10):
        audit = AuditLog(path, max_bytes=1_000)
        for number in range(start, start + 10):
            audit.write(ANN, "unix:", "/a/B", f"jobs/{number}", "OK", "r1")
        audit.close()

    files = sorted(tmp_path.iterdir())
    assert 2 < len(files) <= FILES_KEPT + 1
    assert all(file.stat().st_size <= 1_000 for file in files)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    found = [int(entry["resource"].partition("/")[2]) for f in files for entry in lines(f)]
    assert max(found) == 59
    assert len(found) == len(set(found)) > 20, "nothing is written twice"


def test_text_of_a_caller_cannot_forge_a_line(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log")

    audit.write(ANN, "unix:", "/a/B", 'jobs/x\n{"caller": "root"}\x1b[2J', "OK", "r1")
    audit.close()

    text = (tmp_path / "audit.log").read_text()
    assert text.count("\n") == 1
    assert text.isprintable() or "\x1b" not in text


def test_a_flood_of_unknown_callers_is_counted_and_hides_no_known_one(tmp_path: Path) -> None:
    now = 0.0
    audit = AuditLog(tmp_path / "audit.log", clock=lambda: now)

    def flood(times: int) -> None:
        for _ in range(times):
            audit.write(None, "ipv4:10.0.0.1:7", "/a/B", "", "UNAUTHENTICATED", "r2")

    flood(UNKNOWN_BURST + 50)
    audit.write(ANN, ANN.origin, "/a/B", "jobs/a-1", "OK", "r1")
    flood(10)
    now = 3.0
    flood(10)
    audit.close()

    written = [
        (entry["caller"], entry.get("refusals_not_written", 0))
        for entry in lines(tmp_path / "audit.log")
    ]
    assert written[:UNKNOWN_BURST] == [("", 0)] * UNKNOWN_BURST
    assert written[UNKNOWN_BURST:] == [("ann", 50), ("", 10), ("", 0), ("", 0)]


def test_a_link_is_not_followed_and_calls_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "audit.log").symlink_to(victim)
    audit = AuditLog(tmp_path / "audit.log")

    for _ in range(3):
        audit.write(ANN, "unix:", "/a/B", "", "OK", "r1")

    assert victim.read_text() == ""
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the audit log cannot be written"
    ], "once"
    (tmp_path / "audit.log").unlink()
    audit.write(ANN, "unix:", "/a/B", "", "OK", "r1")
    audit.close()
    assert len(lines(tmp_path / "audit.log")) == 1
