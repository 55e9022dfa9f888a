"""Acts of a service: what clients ask of it, and what runs report to it."""

from __future__ import annotations

from typing import Final

from dbp.job.state import EventKind, State
from tests.durability.request_steps import (
    clean_up,
    delete,
    pause,
    resume,
    retry,
    stop,
    write_files,
)
from tests.durability.service_acts import (
    ServiceAct,
    attach,
    cancel,
    create,
    end,
    label,
    pin,
    publish,
    record,
    register,
    report,
)

RUNNING: Final = (create("a"), attach("a-1"))
# A job with files of every kind has ended well, another one has failed.
ENDED: Final = (
    *RUNNING, create("b"), publish(1), publish(2, final=True), pin(1, pinned=True),
    write_files("a-1"), report("a-1"), end("a-1", "SUCCEEDED", exit_code=0),
    attach("b-1"), end("b-1", "FAILED", exit_code=1),
)  # fmt: skip
# Every event that changes a state, in an order that is allowed.
WALK: Final = (
    EventKind.STARTED, EventKind.PAUSING, EventKind.PAUSED, EventKind.RESUMED,
    EventKind.STARTED, EventKind.CHECKPOINTS_DAMAGED, EventKind.RUNNING,
    EventKind.REQUEUED, EventKind.STARTED, EventKind.CANCELLING,
    EventKind.CANCELLED, EventKind.RETRIED, EventKind.STARTED, EventKind.FAILED,
    EventKind.RETRIED, EventKind.STARTED, EventKind.SUCCEEDED, EventKind.DELETED,
)  # fmt: skip

SERVICE_ACTS: Final = (
    ServiceAct("create jobs", create("a"), create("b")),
    ServiceAct(
        "run a job", attach("a-1"), report("a-1"), end("a-1", "SUCCEEDED", exit_code=0),
        before=RUNNING[:1],
    ),
    ServiceAct(
        "fail and start the next", end("a-1", "FAILED", exit_code=1), attach("b-1"),
        before=(*RUNNING, create("b")),
    ),
    ServiceAct(
        "cancel jobs", cancel("b-1", "CANCELLED"), cancel("a-1", "CANCELLING"),
        end("a-1", "CANCELLED", exit_code=1), before=(*RUNNING, create("b")),
    ),
    ServiceAct("change states", *map(record, WALK), before=(create("z"), create("a"))),
    ServiceAct("register a run", register("a"), attach("a-1"), report("a-1")),
    ServiceAct(
        "publish versions", publish(1), publish(2, best=True), publish(3),
        publish(4, final=True), before=RUNNING,
    ),
    ServiceAct(
        "label and pin", label("live", 1), pin(2, pinned=True), label("live", 2),
        publish(3), publish(4), pin(2, pinned=False), before=(*RUNNING, publish(1), publish(2)),
    ),
    ServiceAct(
        "pause, resume and retry", pause("b-1", State.PAUSED), resume("b-1"),
        pause("a-1", State.PAUSING), stop("a-1", State.PAUSED), resume("a-1"), attach("b-1"),
        end("b-1", "FAILED", exit_code=1), retry("b-1"), before=(*RUNNING, create("b")),
    ),
    ServiceAct("delete jobs", delete("a-1"), delete("b-1"), before=ENDED),
    ServiceAct(
        "delete jobs after a time to live", clean_up(100.0, "b-1"), pin(1, pinned=False),
        clean_up(100.0, "a-1", "b-1"), before=ENDED, keep_ended_seconds=50.0,
    ),
)  # fmt: skip
