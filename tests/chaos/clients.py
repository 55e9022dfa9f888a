"""A client of a chaos run: ``python -m tests.chaos.clients ROLE STATE HISTORY NAME``.

It writes down every call and answer. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from pathlib import Path
from typing import Final

from tests.chaos.askers import delete, revive, stop, submit
from tests.chaos.history import History
from tests.chaos.watchers import follow, watch

ROLES: Final = {role.__name__: role for role in (submit, stop, revive, delete, watch, follow)}


def main(role: str, state: str, folder: str, name: str) -> None:
    """Play one role until SIGTERM."""
    history = History(Path(folder), f"{role}-{name}")

    async def run() -> None:
        rng = random.Random(f"{role} {name}")
        task = asyncio.ensure_future(ROLES[role](Path(state), history, rng))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
