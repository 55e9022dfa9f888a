"""Link process: speaks gRPC for rank 0, which itself loads neither gRPC nor its threads.

``dbp.link.child`` starts it with one argument, the number of the inherited file that holds the
parameter slots. JSON lines arrive on standard input, the configuration first, and leave on
standard output. An unforeseen exception ends it, with a line in the log and exit code 1; rank 0
then starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Final

from dbp.exit_codes import FAILED
from dbp.lossy_output import make_output_lossy

MAX_LINE_BYTES: Final = 16 << 20
# On a machine whose cores are all taken, training comes first.
NICENESS: Final = 10


def main(memory_fd: int) -> int:
    """Run the link on standard input and output; return the exit code."""
    # Before the imports, which take longer than all the rest.
    _ignore_signals()
    _lower_priority()
    make_output_lossy()
    try:
        return asyncio.run(_run(memory_fd))
    except Exception as error:
        sys.stderr.write(f"dbp link: ended by an unforeseen error: {_described(error)}\n")
        sys.stderr.flush()
        return FAILED


async def _run(memory_fd: int) -> int:
    from dbp.link.messages import TO_LINK, LaunchedRun, NewRun, RegisteredRun, decode
    from dbp.link.session import Link
    from dbp.option_names import speak_of_flags

    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = decode(await reader.readline(), TO_LINK)
    if not isinstance(config, LaunchedRun | NewRun | RegisteredRun):
        raise TypeError(f"{type(config).__name__}: the link is not configured")
    if config.speaks_of_flags:
        speak_of_flags()
    return await Link(config, memory_fd).run(reader)


def _described(error: Exception) -> str:
    """Return type, text and place of an exception as one line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "dbp" in Path(frame.filename).parts] or frames
    text = " ".join(f"{type(error).__name__}: {error}".split())
    place = f" ({own[-1].filename}, line {own[-1].lineno}, in {own[-1].name})" if own else ""
    return f"{text:.2000}{place}"


def _lower_priority() -> None:
    """Lower this process's priority below training, within the session and across sessions."""
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # where the system groups by session: sched(7)
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def _ignore_signals() -> None:
    """Ignore signals to the whole process group, so that the ranks' last reports are sent."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
