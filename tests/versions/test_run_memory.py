from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.errors import InvalidInput
from dbp.versions.run_memory import opened

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"),
    reason="memory without a name in the file system is Linux's",
)


MARK = bytes(range(200, 232))


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("dbp-parameters-0123")
    os.write(descriptor, bytes(range(100)) + MARK)
    yield descriptor
    os.close(descriptor)


def name_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_process_of_the_same_user_reads_what_another_holds(memory: int) -> None:
    before = descriptors()

    with opened(os.getpid(), memory, name_of(memory), 10, 90, mark=MARK) as held:
        assert os.pread(held.descriptor, 3, held.offset) == b"\x0a\x0b\x0c"
        assert held.descriptor != memory

    assert descriptors() == before


@pytest.mark.parametrize(("offset", "size"), [(10, 91), (-1, 5), (1 << 62, 1 << 62), (101, 0)])
def test_memory_that_is_too_small_is_refused(memory: int, offset: int, size: int) -> None:
    before = descriptors()

    with (
        pytest.raises(InvalidInput, match="it holds no"),
        opened(os.getpid(), memory, name_of(memory), offset, size, mark=MARK),
    ):
        pass

    assert descriptors() == before


@pytest.mark.parametrize("pid", [0, -1, 2**40, 1])
def test_a_process_that_holds_no_such_memory_is_refused(memory: int, pid: int) -> None:
    with (
        pytest.raises(InvalidInput, match="cannot be read here; send the bytes"),
        opened(pid, memory, name_of(memory), 0, 1, mark=MARK),
    ):
        pass


def test_nothing_but_memory_of_that_name_is_read(memory: int) -> None:
    with tempfile.TemporaryFile() as file:
        for descriptor, name in (
            (file.fileno(), name_of(file.fileno())),  # any file, though it says so
            (memory, name_of(memory).replace("0123", "4567")),
            (9999, name_of(memory)),
            (-1, name_of(memory)),
            (memory, ""),
        ):
            with (
                pytest.raises(InvalidInput, match="cannot be read here"),
                opened(os.getpid(), descriptor, name, 0, 1, mark=MARK),
            ):
                pass


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"of another program" * 9, MARK[::-1]])
def test_memory_of_another_program_is_not_read_though_it_is_named_right(content: bytes) -> None:
    """Its process and its name are no secret, and its name may be that of a run's memory."""
    other = os.memfd_create("dbp-parameters-4567")
    try:
        os.write(other, content)
        before = descriptors()

        with (
            pytest.raises(InvalidInput, match="cannot be read here; send the bytes"),
            opened(os.getpid(), other, name_of(other), 0, 0, mark=MARK),
        ):
            pass

        assert descriptors() == before
    finally:
        os.close(other)
