"""Record that an attempt passes over damaged checkpoints, before it is launched.

The final parameters are the same, but work is lost: the user must learn which files are
damaged.
"""

from __future__ import annotations

import logging
from typing import Final

from dbp.job.state import EventKind, Job
from dbp.jobs.job_table import JobTable
from dbp.storage.checkpoints import NewestCheckpoint

MOST: Final = 3  # sentences on damaged checkpoints in one note
_BEGIN: Final = "checkpoints are damaged: attempt "

log = logging.getLogger("dbp.jobs")


async def note_damaged(table: JobTable, job: Job, found: NewestCheckpoint) -> None:
    """Record the damaged checkpoints that the newest attempt of a job passes over, if any.

    The note on an earlier attempt is replaced.
    """
    if not found.damaged:
        return
    note = _note(job.attempt, found)
    log.warning("job %s: %s", job.id, note)
    kept = [known for known in job.notes if not known.startswith(_BEGIN)]
    await table.record(job.id, EventKind.CHECKPOINTS_DAMAGED, notes=(*kept, note))


def damage_text(found: NewestCheckpoint) -> str:
    """Return which checkpoints are damaged, and why."""
    shown = "; ".join(found.damaged[:MOST])
    more = len(found.damaged) - MOST
    return shown + (f"; and {more:,} more" if more > 0 else "")


def _note(attempt: int, found: NewestCheckpoint) -> str:
    way = f"continues after step {found.step:,}" if found.step else "starts again at step 1"
    return f"{_BEGIN}{attempt} {way} ({damage_text(found)})"
