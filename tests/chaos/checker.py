"""Check the history of a chaos run: ``python -m tests.chaos.checker FOLDER``.

A process of its own, which knows only what the clients wrote, what the service answers at the
end, and the digests of undisturbed runs. Prints one line a violation; exit code 1 if there is
one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.chaos.check_answers import answers, errors
from tests.chaos.check_follows import follows
from tests.chaos.check_jobs import deletions, ends, submits, versions
from tests.chaos.check_watches import unasked, watches
from tests.chaos.history import RUN, of_role, read

MISSES: Final = 15  # of a fault that never hit anything, until that is no accident


def check(folder: Path) -> Iterator[str]:
    """Yield one sentence for each promise that was broken."""
    histories = dict(read(folder / "history"))
    end: dict[str, Any] = json.loads((folder / "end.json").read_text())
    jobs = {job["name"]: job for job in end["jobs"]}
    yield from submits(histories, jobs, end["gone"])
    yield from ends(histories, jobs, end)
    yield from deletions(histories, jobs, end["gone"])
    yield from versions(histories, jobs)
    for name, entries in of_role(histories, "watch"):
        yield from watches(name, entries, jobs, end)
        yield from unasked(name, entries, histories)
    yield from answers(histories)
    yield from errors(histories)
    yield from follows(histories)
    for entry in histories.get(RUN, ()):
        if entry["kind"] == "drain":
            yield from (f"left running after a drain: {left}" for left in entry["left"])
    yield from (f"left: {left}" for left in end["left"])
    for fault, (struck, missed) in end["faults"].items():
        if not struck and missed >= MISSES:
            yield f"fault: {fault} was drawn {missed} times and hit nothing"


def main(folder: str) -> int:
    """Print the violations; return the exit code."""
    violations = list(check(Path(folder)))
    for violation in violations:
        print(violation)
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
