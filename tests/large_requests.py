"""Callers that send large requests at once, in a process of their own.

``python -m tests.large_requests ADDRESS METHOD TRANSPORT CALLERS``. TRANSPORT is unix or tcp.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from dbp.rpc.channel import connect
from tests.credentials import open_channel
from tests.deadline import DEADLINE

# No message of any method, and below the limit of a whole server.
BODY: Final = b"\xff" * (31 << 20)
# Of a stranger, who guesses the secret of a run.
METADATA: Final = (("dbp-attempt-secret", "guessed"),)


async def flood(address: str, method: str, transport: str, callers: int) -> set[str]:
    """Send two requests from each caller; return the codes of the answers."""
    codes = set()
    opened: Any = open_channel if transport == "tcp" else connect

    async def send() -> None:
        async with opened(address) as channel:
            call: Callable[..., Awaitable[bytes]] = channel.unary_unary(method)
            for _ in range(2):
                try:
                    await call(BODY, timeout=DEADLINE, metadata=METADATA)
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code().name)

    await asyncio.gather(*(send() for _ in range(callers)))
    return codes


if __name__ == "__main__":
    print("started", flush=True)
    found = asyncio.run(flood(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
    print(json.dumps(sorted(found)), flush=True)
