"""Link process: speaks gRPC for rank 0, which itself loads neither gRPC nor its threads.

``dbp.link.reporter`` starts it with one argument, the number of the inherited file that holds
the parameter slots. JSON lines arrive on standard input, the configuration first, and leave on
standard output. While the service is down the link keeps the outcome, the last report of each
epoch, waiting versions and the newest progress, and reconnects; the ranks never wait for it. It
ends when rank 0 closes the pipe or dies, after some time to deliver the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, final

import grpc

from dbp.errors import DbpError, Unavailable
from dbp.job.state import ProgressReport, RunOutcome
from dbp.link.messages import (
    TO_LINK,
    Configuration,
    FilledSlot,
    FreedSlot,
    LaunchedRun,
    NewRun,
    Refused,
    Registered,
    RunRequest,
    ToRank,
    TrainingStarted,
    decode,
    encode,
)
from dbp.link.outbox import Outbox
from dbp.link.upload import Publisher, write_log
from dbp.lossy_output import make_output_lossy
from dbp.option_names import speak_of_flags
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
# Longer than any rank 0 waits for its link, and for the case that there is none any more.
LINGER_SECONDS: Final = 60.0
MAX_LINE_BYTES: Final = 16 << 20
# On a machine whose cores are all taken, training comes first.
NICENESS: Final = 10


@final
class Link:
    """The connection of one run to its service, from configuration to acknowledged outcome."""

    def __init__(self, config: Configuration, memory_fd: int) -> None:
        self._config = config
        self._memory_fd = memory_fd
        if isinstance(config, LaunchedRun):
            self._job, self._attempt, self._secret = config.job, config.attempt, config.secret
        else:  # the service names the job
            self._job, self._attempt, self._secret = "", 1, ""
        self._outbox = Outbox()
        # Snapshots in the order of their steps, then the outcome.
        self._deliveries: asyncio.Queue[FilledSlot | RunOutcome] = asyncio.Queue()
        self._started: asyncio.Future[TrainingStarted] = asyncio.Future()
        self._outcome_given = False

    async def run(self, lines: asyncio.StreamReader) -> int:
        """Run until the outcome is acknowledged or rank 0 is gone; return the exit code."""
        if isinstance(self._config, NewRun) and not await self._register(self._config):
            return 1
        publisher = Publisher(
            self._address,
            self._memory_fd,
            job=self._job,
            attempt=self._attempt,
            metadata=self._metadata(),
        )
        tasks = [
            asyncio.create_task(self._attach_forever()),
            asyncio.create_task(self._deliver_forever(publisher)),
        ]
        reading = asyncio.create_task(self._read(lines))
        try:
            await reading
            if not self._outcome_given:
                return 1  # rank 0 died; the supervisor records how
            async with asyncio.timeout(LINGER_SECONDS):
                await self._deliveries.join()
                await self._outbox.drained()
            return 0
        except TimeoutError:
            write_log("the service did not take the end of the run; giving up")
            return 1
        finally:
            for task in (reading, *tasks):
                task.cancel()
            await asyncio.gather(reading, *tasks, return_exceptions=True)
            await publisher.close()

    async def _read(self, lines: asyncio.StreamReader) -> None:
        """Read rank 0's messages until it closes the pipe."""
        while line := await lines.readline():
            match message := decode(line, TO_LINK):
                case TrainingStarted():
                    if not self._started.done():
                        self._started.set_result(message)
                case ProgressReport():
                    report = pb.AttachRequest(progress=progress_to_proto(message))
                    self._outbox.add(report, droppable=not message.epoch_end)
                case FilledSlot():
                    self._deliveries.put_nowait(message)
                case RunOutcome():
                    self._outcome_given = True
                    self._deliveries.put_nowait(message)
                case LaunchedRun() | NewRun():
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
        _send(Registered(self._job))
        return True

    def _address(self) -> str:
        """Return the address of the service now; a restarted service may have another port."""
        if isinstance(self._config, NewRun):
            return self._config.address
        service = json.loads(Path(self._config.service_file).read_text())
        return str(service["address"])

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("dbp-attempt-secret", self._secret),)

    async def _attach_forever(self) -> None:
        await self._started
        delay, logged = FIRST_RETRY_SECONDS, False
        while True:
            try:
                await self._attach()
                delay, logged = FIRST_RETRY_SECONDS, False
            except (OSError, ValueError):
                pass  # no address: the service is being restarted
            except grpc.aio.AioRpcError as error:
                if not is_transient(error):
                    if not logged:
                        write_log(f"the service refused the run's reports: {error.details()}")
                        logged = True
                    if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                        self._outbox.close()  # this attempt is over, or never was one
                        return
                    delay = LAST_RETRY_SECONDS  # another service may have its place for a while
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY_SECONDS)

    async def _attach(self) -> None:
        """Send reports on one stream until it breaks."""
        async with connect(self._address()) as channel:
            call = WorkerServiceStub(channel).Attach(self._reports(), metadata=self._metadata())
            async for answer in call:
                self._outbox.acknowledge(answer.acknowledged)
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
            if isinstance(message, RunOutcome):
                self._queue_outcome(message)
            else:
                await self._deliver(message, publisher)
            self._deliveries.task_done()

    async def _deliver(self, filled: FilledSlot, publisher: Publisher) -> None:
        delay = FIRST_RETRY_SECONDS
        while not await publisher.publish(filled):
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY_SECONDS)
        _send(FreedSlot(filled.slot))

    def _queue_outcome(self, outcome: RunOutcome) -> None:
        """Queue the outcome after all versions have been delivered."""
        if not self._started.done():  # it ended before its first step
            self._started.set_result(TrainingStarted(self._config.workers, total_steps=0))
        report = pb.AttachRequest(outcome=outcome_to_proto(outcome))
        self._outbox.add(report, droppable=False)


def _send(message: ToRank) -> None:
    """Write a message to rank 0, which reads at every step; ignored if rank 0 has ended."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(encode(message).decode())
        sys.stdout.flush()


def _lower_priority() -> None:
    """Lower this process's priority below training, within the session and across sessions."""
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # where the system groups by session: sched(7)
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def _ignore_signals() -> None:
    """Ignore signals to the whole process group, so that the ranks' last reports are sent."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


async def _main(memory_fd: int) -> int:
    make_output_lossy()
    _ignore_signals()
    _lower_priority()
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = decode(await reader.readline(), TO_LINK)
    if not isinstance(config, LaunchedRun | NewRun):
        raise TypeError(f"{type(config).__name__}: the link is not configured")
    if config.speaks_of_flags:
        speak_of_flags()
    return await Link(config, memory_fd).run(reader)


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(int(sys.argv[1]))))
