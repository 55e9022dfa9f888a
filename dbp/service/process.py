"""`dbp serve`: run a service in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from dbp.errors import StateGone
from dbp.launch.launcher import Launcher
from dbp.service.config import ServerConfig
from dbp.service.freed_memory import bound_freed_memory
from dbp.service.job_check import job_check, run_check
from dbp.service.server import Recovered, running

log = logging.getLogger("dbp.service")


async def serve(
    config: ServerConfig,
    launcher: Launcher,
    *,
    ready: Callable[[str], None],
    recovered: Recovered | None = None,
    on_hangup: Callable[[], None] = lambda: None,
) -> None:
    """Run a service until SIGTERM or SIGINT; running jobs continue training.

    ``recovered``: as in ``running``. ``on_hangup`` is called before a reload. StateGone: the
    state folder was deleted.
    """
    bound_freed_memory()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def prepare_reload(reload: Callable[[], None]) -> None:
        """A terminal that closes ends the service; without one, SIGHUP asks for a reload."""
        if has_terminal():
            return

        def reload_all() -> None:
            try:
                on_hangup()
            except OSError as error:
                log.error("the log file cannot be opened again: %s", error)
            reload()

        loop.add_signal_handler(signal.SIGHUP, reload_all)

    loop.add_signal_handler(signal.SIGHUP, stop.set)  # until there is something to reload
    check = job_check(config.data_roots, launcher, config.allowed_sinks)
    lost: list[StateGone] = []

    def gone(error: StateGone) -> None:
        lost.append(error)
        stop.set()

    service = running(
        config,
        launcher=launcher,
        check=check,
        check_run=run_check,
        recovered=recovered,
        gone=gone,
        on_reload=prepare_reload,
    )
    async with service as address:
        ready(address)
        await stop.wait()
        log.info("shutting down; training continues")
    if lost:
        raise lost[0]


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
