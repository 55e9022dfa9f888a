"""``python -m tests.durability.child``: run acts in processes that may be killed on the way.

Reads one JSON object per line: the act, its folder, a point to be killed at (or none) and a
file for the recording. Forks for each, while it has one thread; answers with the exit status
and the facts that were acknowledged before.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.durability.catalogue import ACTS
from tests.durability.recorder import Recorder


def run(order: dict[str, Any], said: int) -> None:
    """Run an act, recorded; write each acknowledged fact to ``said``."""
    recorder = Recorder(Path(order["folder"]), order["kill_at"])

    def acknowledge(fact: str) -> None:
        recorder.acknowledge(fact)
        os.write(said, fact.encode() + b"\n")

    with recorder.recording():
        ACTS[order["act"]].run(recorder.root, acknowledge, order["done"])
    if order["out"]:
        Path(order["out"]).write_bytes(pickle.dumps((recorder.operations, recorder.points)))


def serve(order: dict[str, Any]) -> dict[str, Any]:
    """Fork, run the act in the child, and wait for it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            run(order, writer)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        facts = said.read().splitlines()
    return {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "facts": facts}


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
