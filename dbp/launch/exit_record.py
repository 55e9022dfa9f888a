"""The record of how an attempt ended, ``exit.json``: its space is reserved before the launch.

On a full disk the record is written over the reserved bytes, fsynced and renamed, which takes
no more space. So a finished run is never taken for a lost one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any, Final

from dbp.launch.attempt_files import AttemptFiles
from dbp.storage.atomic_file import rename, sync_folder, write_private
from dbp.storage.full_disk import allocate, is_full

RESERVED_BYTES: Final = 64 << 10
RETRY_SECONDS: Final = 0.5


def reserve_exit(files: AttemptFiles) -> None:
    """Reserve the record's space, and remove the record of an earlier try; OSError."""
    files.exit.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(files.exit_reserve, flags, 0o600)
    try:
        allocate(descriptor, 0, RESERVED_BYTES)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(files.folder)


def write_exit(files: AttemptFiles, record: dict[str, Any]) -> None:
    """Write the record atomically and durably, into the reserved space if there is any.

    ``log_tail`` loses its oldest lines if the record is larger. Without reserved space it waits
    for space; other errors are raised: OSError.
    """
    content = _encoded(record)
    wait_for_space(lambda: _write(files, content))


def wait_for_space(write: Callable[[], None], beat: Callable[[], None] = lambda: None) -> None:
    """Call ``write`` until the disk has space; call ``beat`` between tries. OSError."""
    while True:
        try:
            write()
            return
        except OSError as error:
            if not is_full(error):
                raise
        beat()
        time.sleep(RETRY_SECONDS)


def _encoded(record: dict[str, Any]) -> bytes:
    """Return the record as JSON of at most the reserved size."""
    tail = list(record["log_tail"])
    while True:
        content = json.dumps(record | {"log_tail": tail}).encode()
        if len(content) <= RESERVED_BYTES or not tail:
            return content
        del tail[0]


def _write(files: AttemptFiles, content: bytes) -> None:
    try:
        descriptor = os.open(files.exit_reserve, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:  # launched by an earlier dbp
        write_private(files.exit, content)
        return
    try:
        # Blanks, not zeros, after it: it stays JSON if the file cannot be truncated.
        blanks = b" " * (os.fstat(descriptor).st_size - len(content))
        written = 0
        while written < len(content) + len(blanks):
            written += os.pwrite(descriptor, (content + blanks)[written:], written)
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    rename(files.exit_reserve, files.exit)
