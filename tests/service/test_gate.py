"""The gate by itself: one number of a request in the log and in the audit log."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dbp.access.audit import AuditLog
from dbp.access.tokens import TokenStore
from dbp.errors import PermissionDenied
from dbp.log_fields import current_fields
from dbp.service.gate import Gate

CANCEL = "/dbp.v1.JobService/CancelJob"


def context_of(peer: str) -> Any:
    return SimpleNamespace(peer=lambda: peer, invocation_metadata=lambda: (), auth_context=dict)


async def test_the_audit_log_has_the_number_under_which_a_request_logs(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log")
    gate = Gate(TokenStore(tmp_path / "access", "me"), "me", audit=audit)

    async with gate.call(CANCEL, context_of("unix:"), "4f2c9a1b"):
        logged = current_fields()["request"]
    with contextlib.suppress(PermissionDenied):
        async with gate.call("/no.Service/Method", context_of("unix:"), "0000ffff"):
            raise AssertionError("no role may call it")
    audit.close()

    lines = (tmp_path / "audit.log").read_text().splitlines()
    assert [json.loads(line)["request"] for line in lines] == [logged, "0000ffff"]
    assert logged == "4f2c9a1b"
