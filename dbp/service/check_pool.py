"""Run checks of data in processes: few at a time, by owner, with a deadline, given up at once.

A thread cannot be ended: twelve checks whose callers had left held the next submit up for 44 s.
A process is killed when its caller leaves, when its time is over, and when the service ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, final

from dbp import errors
from dbp.data_roots import DataRoots
from dbp.errors import InvalidData, InvalidSpec, ResourceExhausted, Unavailable, Violation
from dbp.jobs.checks import Checked, CheckFailedError, CheckRequest
from dbp.quantities import count_text, size_text

# Of one owner; the others wait, but not more than these.
RUNNING: Final = 1
WAITING: Final = 16

# Exit codes of a process that a library has ended.
_CRASHES: Final = frozenset(
    -number
    for number in (
        signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    )
)  # fmt: skip

# At the priority of training, so that answers of the service come first.
_NICE: Final = 5


@final
class CheckPool:
    """Checks jobs in processes; at most ``processes`` at a time, one for each owner."""

    def __init__(self, data_roots: Sequence[Path] | None, *, processes: int = 2) -> None:
        """``data_roots``: folders below which files may be read; None: any, but none for a
        confined job, which was checked below roots that the service had before a restart.
        """
        self._data_roots = None if data_roots is None else DataRoots.of(data_roots).to_json()
        self._turns = asyncio.Semaphore(processes)
        self._of_owner: dict[str, asyncio.Semaphore] = {}
        self._waiting: Counter[str] = Counter()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    async def check(self, request: CheckRequest) -> Checked:
        """Check a job; return the result.

        Raises:
            DbpError: as the check raises, above all InvalidSpec and InvalidData.
            CheckFailedError: it took too long or too much memory.
            ResourceExhausted: too many checks of this owner wait.
            Unavailable: the service is shutting down.
        """
        async with self._turn(request.owner):
            try:
                async with asyncio.timeout(request.seconds):
                    answer = await self._answer(request)
            except TimeoutError:
                raise CheckFailedError(
                    f"the check of the data takes more than {request.seconds:.0f} s"
                ) from None
        return _checked(answer, request)

    def close(self) -> None:
        """Kill all checks; their callers get Unavailable."""
        self._closed = True
        for process in self._running:
            process.kill()

    @contextlib.asynccontextmanager
    async def _turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for the owner's turn, then for a free process."""
        if self._waiting[owner] >= WAITING:
            raise ResourceExhausted(
                f"{count_text(WAITING, 'check')} of your data wait already; try again later"
            )
        self._waiting[owner] += 1
        own = self._of_owner.setdefault(owner, asyncio.Semaphore(RUNNING))
        try:
            async with own, self._turns:
                yield
        finally:
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner], self._of_owner[owner]

    async def _answer(self, request: CheckRequest) -> dict[str, Any]:
        if self._closed:
            raise Unavailable("the service is shutting down; try again later")
        roots = self._data_roots
        if roots is None and request.confined:
            roots = DataRoots(()).to_json()
        message = {
            "document": request.document, "workers": request.workers, "whole": request.whole,
            "memory_bytes": request.memory_bytes, "data_roots": roots,
        }  # fmt: skip
        process = _start()
        self._running.add(process)
        talk = asyncio.ensure_future(
            asyncio.to_thread(process.communicate, json.dumps(message).encode())
        )
        try:
            output, _ = await asyncio.shield(talk)
        finally:
            process.kill()  # which ends the thread, too; no effect on one that has ended
            await asyncio.wait([talk])
            self._running.discard(process)
        if self._closed:
            raise Unavailable("the service is shutting down; try again later")
        try:
            answer: dict[str, Any] = json.loads(output)
        except ValueError:
            if process.returncode in _CRASHES:
                raise InvalidData(
                    "data: the library that reads a file ended with signal "
                    f"{-process.returncode}: a file is damaged; write it again"
                ) from None
            raise CheckFailedError(
                f"the check of the data ended without an answer (exit {process.returncode})"
            ) from None
        return answer


def _start() -> subprocess.Popen[bytes]:
    """Start the process of a check, by vfork and exec: a fork could break gRPC."""
    return subprocess.Popen(
        ["nice", "-n", str(_NICE), sys.executable, "-P", "-m", "dbp.service.check_process"],  # noqa: S607
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )


def _checked(answer: dict[str, Any], request: CheckRequest) -> Checked:
    """Return the result in an answer, or raise its error."""
    if answer.get("exhausted"):
        raise CheckFailedError(
            f"the check of the data takes more than {size_text(request.memory_bytes)} of memory"
        )
    name = answer.get("error")
    if name == "InvalidSpec":
        raise InvalidSpec([Violation(*violation) for violation in answer["violations"]])
    if name is not None:
        raise getattr(errors, name, InvalidData)(answer["text"])
    notes = tuple(answer["notes"])
    return Checked(
        answer["document"], answer["digest"], notes, answer["data_digest"],
        is_whole=request.whole,
    )  # fmt: skip
