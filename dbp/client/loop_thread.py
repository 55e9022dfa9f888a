"""An event loop on a thread of its own, for synchronous callers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Final, TypeAlias, TypeVar, final

from dbp.errors import ClientClosed, ClientForked, InvalidInput
from dbp.rpc.forking import client_forked, is_forked

T = TypeVar("T")
Work: TypeAlias = Coroutine[object, None, T]

ENDING_SECONDS: Final = 1.0


class _End:
    """Stands for the end of the items."""


@final
class LoopThread:
    """Runs coroutines for any number of threads, until it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._tasks: set[asyncio.Task[object]] = set()  # touched on the loop's thread only
        made: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=_run_loop, args=(made,), name="dbp-client", daemon=True
        )
        self._thread.start()
        self._loop = made.result()

    def run(self, work: Work[T]) -> T:
        """Return the result of ``work``; an interrupted wait cancels it.

        Raises ClientClosed once closed, ClientForked in a process forked since, InvalidInput on
        the loop's own thread, as in a callback: it would wait for itself.
        """
        self._refuse_own_thread(work)
        future = self._start(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClientClosed("the client has been closed") from None
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield the items as they arrive; leaving early closes their source."""
        pending: set[asyncio.Task[object]] = set()

        async def following() -> T | _End:
            task = _current_task()
            pending.add(task)
            try:
                return await anext(items, _End())
            finally:
                pending.discard(task)

        async def leaving() -> None:
            for task in list(pending):  # an interrupted wait may not be over yet
                task.cancel()
                await asyncio.wait([task])
            await items.aclose()

        try:
            while not isinstance(item := self.run(following()), _End):
                yield item
        finally:
            # This must not block: a forgotten iterator may be collected on any thread,
            # the loop's own among them. The source is closed already where the client is, and
            # in a forked process the source is the parent's.
            with contextlib.suppress(ClientClosed, ClientForked):
                self._start(leaving())

    def close(self, last: Work[None]) -> None:
        """Cancel all calls, run ``last``, end the thread.

        Does nothing if closed before, and in a process forked since: the thread is the
        parent's. Raises InvalidInput on the loop's own thread, as ``run`` does.
        """
        if is_forked():
            last.close()
            return
        self._refuse_own_thread(last)
        with self._lock:
            if self._closed:
                last.close()
                return
            self._closed = True
            ended = asyncio.run_coroutine_threadsafe(self._end(last), self._loop)
        try:
            ended.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _refuse_own_thread(self, work: Work[object]) -> None:
        if threading.current_thread() is self._thread:
            work.close()
            raise InvalidInput("a callback of this client cannot wait for the client itself")

    def _start(self, work: Work[T]) -> concurrent.futures.Future[T]:
        async def tracked() -> T:
            task = _current_task()
            self._tasks.add(task)
            try:
                return await work
            finally:
                self._tasks.discard(task)

        if is_forked():  # asked before the lock, which may have been taken at the fork
            work.close()
            raise client_forked()
        with self._lock:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(tracked(), self._loop)
        work.close()
        raise ClientClosed("the client has been closed")

    async def _end(self, last: Work[None]) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await last
        # gRPC's own tasks end by themselves now that the channel is closed. asyncio would
        # report one that is pending at the loop's end on standard error.
        rest = asyncio.all_tasks() - {_current_task()}
        if rest:
            _, late = await asyncio.wait(rest, timeout=ENDING_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._loop.shutdown_asyncgens()


def _run_loop(made: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
    # Made on this thread: only the main thread receives Ctrl-C, so no loop is left half made.
    loop = asyncio.new_event_loop()
    made.set_result(loop)
    while True:
        try:
            loop.run_forever()
        except SystemExit:  # of a callback: its caller receives it if the loop runs on
            continue
        return


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("only a task of the loop may ask for itself")
    return task
