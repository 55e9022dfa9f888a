"""The connection of one run to its service, from configuration to acknowledged outcome.

While the service is down it keeps the outcome, the last report of each epoch, waiting versions
and the newest progress, and reconnects; the ranks never wait for it. It ends when rank 0 closes
the pipe or dies, after some time to deliver the rest, and by the first exception of a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import Final, final

import grpc

from dbp.errors import DbpError, Unavailable
from dbp.link.messages import (
    TO_LINK,
    Alive,
    AttemptOver,
    Configuration,
    FilledSlot,
    FreedSlot,
    LaunchedRun,
    NewRun,
    NumberedOutcome,
    NumberedProgress,
    Probe,
    Refused,
    Registered,
    RegisteredRun,
    RunRequest,
    StoredReports,
    ToLink,
    ToRank,
    TrainingStarted,
    decode,
    encode,
)
from dbp.link.outbox import Outbox
from dbp.link.outgoing import Outgoing
from dbp.link.upload import Publisher, write_log
from dbp.rpc.attempt_secret import ATTEMPT_SECRET
from dbp.rpc.backoff import Backoff
from dbp.rpc.channel import connect
from dbp.rpc.job_convert import outcome_to_proto, progress_to_proto
from dbp.rpc.scalar_convert import job_name
from dbp.rpc.spec_convert import spec_to_proto
from dbp.rpc.status import error_from_rpc, is_transient
from dbp.v1 import stream_pb2
from dbp.v1 import worker_service_pb2 as pb
from dbp.v1.worker_service_pb2_grpc import WorkerServiceStub

HEARTBEAT_SECONDS: Final = 5.0
FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 5.0
# After the end of rank 0: longer than rank 0 ever waits for its link.
LINGER_SECONDS: Final = 60.0


@final
class Link:
    """The connection of one run to its service, from configuration to acknowledged outcome."""

    def __init__(self, config: Configuration, memory_fd: int) -> None:
        self._config = config
        self._memory_fd = memory_fd
        self._attempt = config.attempt if isinstance(config, LaunchedRun) else 1
        if isinstance(config, NewRun):  # the service names the job
            self._job, self._secret = "", ""
        else:
            self._job, self._secret = config.job, config.secret
        self._outbox = Outbox()
        # Snapshots in the order of their steps, then the outcome.
        self._deliveries: asyncio.Queue[FilledSlot | NumberedOutcome] = asyncio.Queue()
        self._started: asyncio.Future[TrainingStarted] = asyncio.Future()
        self._outcome_given = False

    async def run(self, lines: asyncio.StreamReader) -> int:
        """Run until the outcome is acknowledged or rank 0 is gone; return the exit code.

        Raises the first exception of a task, and cancels the other tasks.
        """
        if isinstance(self._config, NewRun) and not await self._register(self._config):
            return 1
        publisher = Publisher(
            self._address,
            self._memory_fd,
            job=self._job,
            attempt=self._attempt,
            generation=self._config.generation,
            secret=self._secret,
        )
        tasks = [
            asyncio.create_task(self._read(lines), name="reading"),
            asyncio.create_task(self._attach_forever(), name="reporting"),
            asyncio.create_task(self._deliver_forever(publisher), name="publishing"),
        ]
        try:
            await _completed(tasks[0], tasks)
            if not self._outcome_given:
                return 1  # rank 0 died; the supervisor records how
            tasks.append(asyncio.create_task(self._drained(), name="draining"))
            async with asyncio.timeout(LINGER_SECONDS):
                await _completed(tasks[-1], tasks)
            return 0
        except TimeoutError:
            write_log("the service did not take the end of the run; giving up")
            return 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await publisher.close()

    async def _drained(self) -> None:
        await self._deliveries.join()
        await self._outbox.drained()

    async def _read(self, lines: asyncio.StreamReader) -> None:
        """Read rank 0's messages until it closes the pipe."""
        while line := await lines.readline():
            self._take(decode(line, TO_LINK))

    def _take(self, message: ToLink) -> None:
        match message:
            case TrainingStarted():
                if not self._started.done():
                    self._started.set_result(message)
            case NumberedProgress(sequence, progress):
                self._start_early()  # it waits for space before its first step
                report = pb.AttachRequest(
                    sequence=sequence, progress=progress_to_proto(progress)
                )
                self._outbox.add(report, droppable=not progress.epoch_end)
            case FilledSlot():
                self._deliveries.put_nowait(message)
            case NumberedOutcome():
                self._outcome_given = True
                self._deliveries.put_nowait(message)
            case Probe():
                _send(Alive())
            case LaunchedRun() | NewRun() | RegisteredRun():
                raise ValueError(f"{type(message).__name__}: the link is configured")

    async def _register(self, run: NewRun) -> bool:
        try:
            request = pb.RegisterRunRequest(
                spec=spec_to_proto(run.document),
                workers=run.workers,
                request_id=run.request_id,
                host=socket.gethostname(),
            )
            async with connect(self._address()) as channel:
                answer = await WorkerServiceStub(channel).RegisterRun(request, timeout=10.0)
        except (grpc.aio.AioRpcError, DbpError) as error:
            reported = error if isinstance(error, DbpError) else error_from_rpc(error)
            _send(Refused(str(reported), isinstance(reported, Unavailable)))
            return False
        self._job = answer.job.name.removeprefix("jobs/")
        self._secret = answer.secret
        _send(Registered(self._job, self._secret))
        return True

    def _address(self) -> str:
        """Return the address of the service now; a restarted service may have another port.

        Raises:
            Unavailable: the service is being restarted and has none.
        """
        if not isinstance(self._config, LaunchedRun):
            return self._config.address
        try:
            service = json.loads(Path(self._config.service_file).read_text())
        except (OSError, ValueError) as error:
            raise Unavailable(f"{self._config.service_file}: {error}") from error
        return str(service.get("socket") or service["address"])

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return ((ATTEMPT_SECRET, self._secret),)

    async def _attach_forever(self) -> None:
        await self._started
        backoff, logged = Backoff(FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS), False
        while True:
            try:
                await self._attach()
                backoff.restart()
                logged = False
            except Unavailable:
                pass
            except grpc.aio.AioRpcError as error:
                if not is_transient(error):
                    if not logged:
                        write_log(f"the service refused the run's reports: {error.details()}")
                        logged = True
                    if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                        self._outbox.close()  # this attempt is over, or never was one
                        _send(AttemptOver())
                        return
                    backoff.rise()  # another service may use this address now
            await asyncio.sleep(backoff.next())

    async def _attach(self) -> None:
        """Send reports on one stream until it breaks."""
        reports = Outgoing(self._reports())
        async with connect(self._address()) as channel:
            call = WorkerServiceStub(channel).Attach(reports, metadata=self._metadata())
            with reports.raising():
                await self._hear(call)

    async def _hear(self, answers: AsyncIterable[pb.AttachResponse]) -> None:
        async for answer in answers:
            if self._outbox.acknowledge(answer.acknowledged):
                _send(StoredReports(answer.acknowledged))
            if answer.stop or answer.publish:
                _send(RunRequest(answer.stop, answer.publish))

    async def _reports(self) -> AsyncIterator[pb.AttachRequest]:
        started = await self._started
        hello = pb.AttachHello(
            job=job_name(self._job),
            attempt=self._attempt,
            host=socket.gethostname(),
            world_size=started.world_size,
            total_steps=started.total_steps,
            link_generation=self._config.generation,
        )
        yield pb.AttachRequest(sequence=0, hello=hello)
        sent = 0
        while True:
            report = await self._outbox.next(sent, HEARTBEAT_SECONDS)
            if report is None:
                yield pb.AttachRequest(heartbeat=stream_pb2.Heartbeat())
            else:
                sent = report.sequence
                yield report

    async def _deliver_forever(self, publisher: Publisher) -> None:
        while True:
            message = await self._deliveries.get()
            if isinstance(message, NumberedOutcome):
                self._queue_outcome(message)
            else:
                await self._deliver(message, publisher)
            self._deliveries.task_done()

    async def _deliver(self, filled: FilledSlot, publisher: Publisher) -> None:
        backoff = Backoff(FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS)
        while not await publisher.publish(filled):
            await asyncio.sleep(backoff.next())
        _send(FreedSlot(filled.slot))

    def _start_early(self) -> None:
        """Send reports that come before the first step, too."""
        if not self._started.done():
            self._started.set_result(TrainingStarted(self._config.workers, total_steps=0))

    def _queue_outcome(self, message: NumberedOutcome) -> None:
        """Queue the outcome after all versions have been delivered."""
        self._start_early()  # it ended before its first step
        report = pb.AttachRequest(
            sequence=message.sequence, outcome=outcome_to_proto(message.outcome)
        )
        self._outbox.add(report, droppable=False)


def _send(message: ToRank) -> None:
    """Write a message to rank 0, which reads at every step; ignored if rank 0 has ended."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(encode(message).decode())
        sys.stdout.flush()


async def _completed(wanted: asyncio.Task[None], tasks: Iterable[asyncio.Task[None]]) -> None:
    """Return once ``wanted`` has ended; raise the exception of any task that ends before."""
    pending = {wanted, *tasks}
    while not wanted.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.cancelled():
                raise RuntimeError(f"{task.get_name()}: cancelled from within")
            task.result()
