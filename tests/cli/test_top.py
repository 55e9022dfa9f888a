"""`dbp top`: live on a terminal, once in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading

from tests.cli.setups import DBP, environment, output, run, until


def test_in_a_pipe_the_table_is_printed_once(service: str, ended: str) -> None:
    lines = output("top", service=service).splitlines()

    assert "succeeded" in lines[0]
    assert lines[1].split()[:3] == ["JOB", "STATE", "WORKERS"]
    (row,) = [line for line in lines if line.startswith(ended)]
    assert row.split()[1:4] == ["SUCCEEDED", "1", "100"]


def test_without_a_service_it_ends_at_once() -> None:
    done = run("top", service="127.0.0.1:1")

    assert done.returncode == 3
    assert done.stdout == ""


def test_on_a_terminal_the_table_stays_until_ctrl_c(service: str, ended: str) -> None:
    controller, terminal = pty.openpty()
    # Other tests have left jobs in this service: all must fit onto the screen.
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 120, 0, 0))
    process = subprocess.Popen(
        [*DBP, "top", "--every", "0.1"], stdin=subprocess.DEVNULL, stdout=terminal,
        stderr=terminal, env=environment(service, TERM="xterm-256color"),
    )  # fmt: skip
    os.close(terminal)
    written = bytearray()

    def read() -> None:
        try:
            while part := os.read(controller, 65_536):
                written.extend(part)
        except OSError:  # Linux: the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        until(lambda: written.count(ended.encode()) >= 3)  # drawn again and again
        process.send_signal(signal.SIGINT)
        until(lambda: process.poll() is not None)
    finally:
        process.kill()
        process.wait()
        reader.join()
        os.close(controller)

    assert process.returncode == 0
    text = written.decode()
    assert text.startswith("\x1b[?1049h")  # a screen of its own
    assert "\x1b[?1049l" in text  # the shell's is back
    assert "\x1b[?25h" in text.rpartition("\x1b[?1049l")[0] + text[-20:]  # and its cursor
    assert "Traceback" not in text
