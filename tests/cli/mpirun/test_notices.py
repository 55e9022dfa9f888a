from __future__ import annotations

import pytest

from dbp.cli.mpirun.notices import NoticeFilter

DASHES = b"-" * 74 + b"\n"
EQUALS = b"=" * 83 + b"\n"
EXIT = (
    DASHES
    + b"prterun detected that one or more processes exited with non-zero status,\n"
    + b"thus causing the job to be terminated. The first process to do so was:\n\n"
    + b"   Process name: [prterun-vm-472@1,0]\n   Exit code:    75\n"
    + DASHES
)
KILLED = (
    DASHES
    + b"prterun noticed that process rank 1 with PID 547 on node vm exited on\n"
    + b"signal 9 (Killed).\n"
    + DASHES
)
ABORT = (
    DASHES
    + b"MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD\n  Errorcode: 1\n"
    + DASHES
)
LOST = b"[vm:16671] PMIX ERROR: PMIX_ERR_UNREACH in file server.c at line 3146\n"
HYDRA = (
    EQUALS
    + b"=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n=   EXIT CODE: 9\n"
    + EQUALS
    + b"YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)\n"
    + b"This typically refers to a problem with your application.\n"
    + b"Please see the FAQ page for debugging suggestions\n"
)
OPEN_MPI_4 = (
    DASHES
    + b"Primary job  terminated normally, but 1 process returned\n"
    + b"a non-zero exit code. Per user-direction, the job has been aborted.\n"
    + DASHES
)


def passed_on(stream: NoticeFilter, text: bytes, size: int) -> bytes:
    pieces = (text[i : i + size] for i in range(0, len(text), size))
    return b"".join(map(stream.feed, pieces)) + stream.close()


@pytest.mark.parametrize("notice", [EXIT, KILLED, ABORT, HYDRA, OPEN_MPI_4])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_notices_are_taken_out_of_the_output(notice: bytes, size: int) -> None:
    stream = NoticeFilter()

    assert passed_on(stream, b"before\n" + notice + b"after\n", size) == b"before\nafter\n"
    assert stream.notices == [notice]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    "text",
    [
        DASHES + b"a table\n" + DASHES + b"1 2 3\n" + DASHES,
        EQUALS + b"a title\n" + EQUALS,
        EQUALS + EQUALS + b"= one\n",
        b"text " + EXIT[:80],
        DASHES,
        DASHES + b"mpirun is mentioned, but the frame has no end\n" + b"more\n" * 60,
        b"\r\x1b[2K 10%\r\x1b[2K 20%",
        b"[1/3] [vm:12] PMIX\n",
        b"\n\n--\n==",
    ],
)
def test_all_other_output_passes_unchanged(text: bytes, size: int) -> None:
    assert passed_on(NoticeFilter(), text, size) == text


@pytest.mark.parametrize("notice", [EXIT, KILLED, ABORT, OPEN_MPI_4])
def test_a_line_of_another_thread_may_come_after_any_line_of_a_notice(notice: bytes) -> None:
    lines = notice.splitlines(keepends=True)
    for place in range(len(lines) + 1):
        stream = NoticeFilter()
        text = b"".join([b"before\n", *lines[:place], LOST, *lines[place:], b"after\n"])

        assert passed_on(stream, text, 100_000) == b"before\nafter\n"
        assert sorted(stream.notices) == sorted([notice, LOST])


@pytest.mark.parametrize("notice", [EXIT, ABORT, LOST])
@pytest.mark.parametrize("together", [True, False])
def test_a_notice_may_interrupt_a_line_of_a_rank(notice: bytes, together: bool) -> None:
    stream = NoticeFilter()
    pieces = [b"\r 10%", notice, b" of all", notice, b"\nlast\n"]

    passed = b"".join(map(stream.feed, [b"".join(pieces)] if together else pieces))

    assert passed + stream.close() == b"\r 10% of all\nlast\n"
    assert stream.notices == [notice, notice]


def test_an_unfinished_line_passes_at_once() -> None:
    stream = NoticeFilter()

    assert stream.feed(b"\x1b[2Kepoch 1") == b"\x1b[2Kepoch 1"
    assert stream.feed(b"-----") == b"-----"
    assert stream.feed(b"\n---") == b"\n"
    assert stream.feed(b"|") == b"---|"


def test_two_notices_in_a_row_are_two() -> None:
    stream = NoticeFilter()

    assert passed_on(stream, ABORT + EXIT + LOST + HYDRA + HYDRA, 100_000) == b""
    assert stream.notices[:3] == [ABORT, EXIT, LOST]


@pytest.mark.parametrize("notice", [EXIT, ABORT, OPEN_MPI_4, LOST])
def test_a_notice_of_an_exit_code_is_news_only_where_dbp_reported_nothing(
    notice: bytes,
) -> None:
    stream = NoticeFilter()
    stream.feed(notice)

    assert stream.news(reported=True) == []
    assert stream.news(reported=False) == [notice]


@pytest.mark.parametrize("notice", [KILLED, HYDRA])
def test_a_notice_of_a_signal_is_always_news(notice: bytes) -> None:
    stream = NoticeFilter()
    stream.feed(notice)
    stream.close()

    assert stream.news(reported=True) == [notice]


def test_the_signal_is_read_from_mpichs_notice() -> None:
    stream = NoticeFilter()
    stream.feed(HYDRA)
    stream.close()

    assert stream.signal() == 9


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (b"error: no such file\n", True),
        (b"x\nrank 1 of 2 failed:\nTraceback ...\n", True),
        (b'{"error": {"kind": "InvalidInput"}}\n', True),
        (b'{"status": "failed", "reason": "NON_FINITE"}\n', True),
        (b"note: 4 workers share 2 cores\n", False),
        (b"epoch 1: training_error 0.2\n", False),
    ],
)
def test_dbps_own_error_reports_are_recognized(text: bytes, reported: bool) -> None:
    stream = NoticeFilter()
    stream.feed(text)

    assert stream.reported is reported
