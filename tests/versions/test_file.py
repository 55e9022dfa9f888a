from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.errors import InvalidInput
from dbp.versions.file import COPIED_AT_A_TIME, ByteRange, Chunks, write
from tests.deadline import DEADLINE

HEADER = b"header"
DATA = os.urandom(COPIED_AT_A_TIME * 2 + 3)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[ByteRange]:
    """The data behind 5 other bytes."""
    (tmp_path / "source").write_bytes(b"xxxxx" + DATA)
    with (tmp_path / "source").open("rb") as file:
        yield ByteRange(file.fileno(), 5)


async def test_byte_ranges_and_chunks_are_written_alike(
    tmp_path: Path, held: ByteRange
) -> None:
    ways: dict[str, Chunks] = {"held": held, "sent": [DATA[:7], b"", DATA[7:]]}
    for name, way in ways.items():
        digest, size = await write(tmp_path / name, HEADER, way, len(DATA))

        assert (tmp_path / name).read_bytes() == HEADER + DATA
        assert digest == hashlib.sha256(HEADER + DATA).hexdigest()
        assert size == len(HEADER + DATA)


@pytest.mark.parametrize("missing", [1, COPIED_AT_A_TIME, len(DATA)])
async def test_less_than_announced_is_refused(
    tmp_path: Path, held: ByteRange, missing: int
) -> None:
    expected = len(DATA) + missing

    with pytest.raises(InvalidInput, match=f"{len(DATA)} of the manifest's {expected} bytes"):
        await write(tmp_path / "held", HEADER, held, expected)
    with pytest.raises(InvalidInput, match=f"{len(DATA)} of the manifest's {expected} bytes"):
        await write(tmp_path / "sent", HEADER, [DATA], expected)


async def test_more_than_announced_is_refused_as_soon_as_it_comes(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield DATA
        yield b"x"
        raise AssertionError("asked for more")

    with pytest.raises(InvalidInput, match=f"more than the {len(DATA)} bytes"):
        await write(tmp_path / "sent", HEADER, chunks(), len(DATA))


async def test_who_is_cancelled_closes_nothing_that_a_thread_still_uses(
    tmp_path: Path, held: ByteRange, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go = threading.Event(), threading.Event()
    synced: list[int] = []

    def slow(descriptor: int) -> None:
        reached.set()
        assert go.wait(DEADLINE)
        synced.append(os.fstat(descriptor).st_size)  # EBADF if it were closed

    monkeypatch.setattr(os, "fsync", slow)
    writing = asyncio.create_task(write(tmp_path / "held", HEADER, held, len(DATA)))
    assert await asyncio.to_thread(reached.wait, 10)

    writing.cancel()
    await asyncio.sleep(0.05)
    writing.cancel()  # twice is no different
    await asyncio.sleep(0.05)
    assert not writing.done()
    go.set()

    with pytest.raises(asyncio.CancelledError):
        await writing
    assert synced == [len(HEADER) + len(DATA)]
