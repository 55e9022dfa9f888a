"""The report on a stalled attempt: written to the attempt's folder before its processes die.

A service that ends between the kill and the verdict would otherwise leave an attempt that
seems to have died by itself.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from dbp.errors import DataLoss
from dbp.launch.launcher import Exit
from dbp.storage.atomic_file import read_json, write_json

NAME: Final = "stall.json"

log = logging.getLogger("dbp.jobs")


@dataclass(frozen=True)
class StallReport:
    """Why an attempt was ended: ``message`` for people, and the process that held it up.

    ``rank`` is None if it is no rank, or if no single rank holds up the others.
    """

    message: str
    rank: int | None
    host: str
    step: int

    def write(self, folder: Path) -> None:
        """Write the report durably to the folder of its attempt; OSError."""
        write_json(folder / NAME, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path, ended: Exit) -> Self | None:
        """Return the report that explains the end of an attempt; None if there is none.

        A report whose attempt recovered before it was killed explains no other end.
        """
        if not (ended.stopped or ended.lost):
            return None
        try:
            fields: dict[str, Any] | None = read_json(folder / NAME)
            return None if fields is None else cls(**fields)
        except (DataLoss, TypeError) as error:
            log.warning("%s: the report on its stall is damaged: %s", folder, error)
            return None
