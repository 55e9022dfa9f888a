"""All durable acts, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.durability.act import Act
from tests.durability.attempt_acts import RESUME_JOB
from tests.durability.backup_acts import BackUp, ChangeTables, Restore
from tests.durability.checkpoint_acts import (
    DiscardCheckpoints,
    ReplaceCheckpoint,
    RollBack,
    WriteCheckpoints,
)
from tests.durability.database_acts import Commit
from tests.durability.file_acts import (
    Announce,
    Launch,
    RecordExit,
    ReplaceFile,
)
from tests.durability.metrics_acts import RecordMetrics
from tests.durability.recovery_acts import RecoverDatabase
from tests.durability.run_acts import ResumeRun
from tests.durability.service_catalogue import SERVICE_ACTS
from tests.durability.stall_acts import ReportStall

ACTS: Final[Mapping[str, Act]] = {
    act.name: act
    for act in (
        ReplaceFile(),
        Announce(),
        Launch(),
        RecordExit(reserved=True),
        RecordExit(reserved=False),
        WriteCheckpoints(),
        ReplaceCheckpoint(),
        RollBack(),
        DiscardCheckpoints(),
        ResumeRun(),
        Commit(),
        RecordMetrics(),
        ReportStall(),
        RecoverDatabase(),
        BackUp("backup"),
        BackUp("backup.tar"),
        Restore(),
        ChangeTables(),
        *SERVICE_ACTS,
        RESUME_JOB,
    )
}
