"""Check one job in a process of its own: ``python -m dbp.service.check_process``.

Reads a request as JSON from stdin and writes the answer as JSON to stdout. The process may be
killed at any time; it writes no files.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

from dbp.data_roots import DataRoots
from dbp.errors import DbpError, InvalidSpec

# What a check reads of a file where it reads its beginning only.
HEAD_BYTES: Final = 4 * 2**20


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    answer = sys.stdout
    sys.stdout = sys.stderr
    try:
        found = _check(request)
    except InvalidSpec as error:
        violations = [[violation.path, violation.message] for violation in error.violations]
        found = {"error": "InvalidSpec", "violations": violations}
    except DbpError as error:
        found = {"error": type(error).__name__, "text": str(error)}
    except MemoryError:
        found = {"exhausted": True}
    json.dump(found, answer)


def _check(request: dict[str, Any]) -> dict[str, Any]:
    import dbp.train.check.inspection  # noqa: F401 - its libraries count as there already
    from dbp.data.reading import HEAD
    from dbp.job.spec.resolve import resolve
    from dbp.service.job_check import check_head, check_whole

    given = request["data_roots"]
    roots = None if given is None else DataRoots.from_json(given)
    resolved = resolve(request["document"], data_roots=roots)
    _limit_memory(request["memory_bytes"])
    if request["whole"]:
        checked = check_whole(resolved, request["workers"], roots)
    else:
        HEAD.set(HEAD_BYTES)
        checked = check_head(resolved, roots)
    return {
        "document": checked.document, "digest": checked.digest, "notes": checked.notes,
        "data_digest": checked.data_digest,
    }  # fmt: skip


def _limit_memory(more: int) -> None:
    """Let this process take so many bytes of memory more; an allocation beyond them fails."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
