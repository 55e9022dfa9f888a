"""The terminal while a run is under way: under both MPI libraries, at any width."""

from __future__ import annotations

import re
import signal

import pytest

from tests.cli.setups import Server, output, write_spec
from tests.system.terminal_run import LIBRARIES, SPEC, Run, Start, wait_until
from tests.system.test_train import DBP

REDRAW = "\r\x1b[2K"
# Shown at these widths and more.
PARTS = {
    40: ("epoch", "loss"),
    60: ("epoch", "loss", "to go"),
    80: ("epoch", "loss", "val", "to go"),
    100: ("epoch", "loss", "val", "to go", "/2,600,000"),
    140: ("epoch", "loss", "validation_accuracy", "to go", "/2,600,000", "/s"),
}


def drawn(output: str) -> list[str]:
    """The lines of a bar that are complete, without colors."""
    return [plain(line).rstrip("\r\n") for line in output.split(REDRAW)[1:-1]]


def plain(output: str) -> str:
    """The output without colors and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)


def steps(lines: list[str]) -> set[str]:
    return {found[0] for line in lines if (found := re.search(r"[\d,]+/2,600,000", line))}


@pytest.mark.parametrize("library", LIBRARIES)
def test_two_ranks_draw_a_bar_while_they_train(start: Start, library: str) -> None:
    run = start(library)

    wait_until(
        lambda: len(steps(drawn(run.output))) > 2, f"a moving bar: {run.output[-2000:]!r}"
    )
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGTERM)

    assert run.end() == 75
    text = plain(run.output)
    assert re.search(r"\nstopped on request: epoch [\d,]+, [\d,]+ steps? in ", text)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_bare_mpirun_shows_lines_while_it_trains(start: Start, library: str) -> None:
    run = start.bare(library)

    def lines() -> list[str]:
        return re.findall(r"^epoch \d+, step [\d,]+/2,600,000: .* to go\r$", run.output, re.M)

    wait_until(lambda: len(lines()) > 1, f"lines: {run.output[-2000:]!r}")
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGUSR1)

    assert run.end() == 75
    assert "\x1b" not in run.output
    assert " 0 samples/s" not in run.output


def test_the_bar_fits_any_width(start: Start) -> None:
    folder = start.folder / "run"
    run = start.run(folder, "openmpi", [DBP, "train", str(start.spec), "--run", str(folder)])

    for width, parts in reversed(PARTS.items()):
        fits(run, width, parts)
    run.process.send_signal(signal.SIGTERM)

    assert run.end() == 75


def fits(run: Run, width: int, parts: tuple[str, ...]) -> None:
    """The bar has all of these parts at a width, once it is drawn for that width."""
    run.resize(width)
    seen = len(run.output)

    def shown() -> bool:
        lines = drawn(run.output[seen:])[1:]  # one may be under way
        return bool(lines) and len(lines[-1]) < width and all(p in lines[-1] for p in parts)

    wait_until(shown, f"{parts} in {width} columns: {run.output[-1000:]!r}")


def test_a_terminal_without_cursor_movements_gets_lines(start: Start) -> None:
    folder = start.folder / "run"
    command = ["/usr/bin/env", "TERM=dumb", DBP, "train", str(start.spec), "--run", str(folder)]
    run = start.run(folder, "openmpi", [*command, "--epochs", "2"])

    assert run.end() == 0
    assert "\x1b" not in run.output
    assert "finished: 2 epochs, 52 steps in " in run.output


def test_a_resumed_run_says_where_it_continues(start: Start) -> None:
    folder = start.folder / "run"
    first = [DBP, "train", str(start.spec), "--run", str(folder), "--epochs", "2"]
    assert start.run(folder, "openmpi", first).end() == 0

    resume = start.command("openmpi", "train", "--resume", str(folder), "--epochs", "3")
    again = start.run(folder, "openmpi", [*resume, "-n", "2"])

    assert again.end() == 0
    checkpoint = folder / "checkpoints" / "step-000000000052"
    text = f"resuming from {checkpoint}: 52 of 78 steps done, in epoch 3"
    assert text in again.output
    assert "finished: 3 epochs, 78 steps, the last 26 in " in again.output


def test_an_early_stop_is_shown_in_plain_words(start: Start) -> None:
    stop = (
        'epochs = 100000\nstop = { metric = "validation_loss", patience = 1, tolerance = 9.0 }'
    )
    start.spec.write_text(SPEC.replace("epochs = 100000", stop))
    folder = start.folder / "run"

    run = start.run(folder, "openmpi", [DBP, "train", str(start.spec), "--run", str(folder)])

    assert run.end() == 0
    assert re.search(
        r"\nstopped early: validation_loss has not improved by more than 9 for 1 epoch "
        r"\(best: epoch 1, \d\.\d{4}\)\r\n2 epochs, 52 steps in ",
        plain(run.output),
    ), run.output


def test_watch_fits_any_width_and_its_end_has_no_time_to_go(start: Start) -> None:
    spec = write_spec(start.folder / "endless.toml", name="endless", steps=2_600_000)
    with Server(start.folder / "state") as server:
        job = output("submit", str(spec), service=server.address).strip()
        command = [DBP, "watch", job, "--service", server.address]
        run = start.run(start.folder / "run", "openmpi", command)

        for width, parts in reversed(PARTS.items()):
            state = ("RUNNING", "epoch", "%") if width < 100 else ("RUNNING",)
            fits(run, width, (*state, *(parts if width > 60 else ())))
        run.resize(140)
        output("cancel", job, service=server.address)

        assert run.end() == 75
    bar, ended, *ending = plain(run.output.rpartition(REDRAW)[2]).splitlines()
    assert bar.startswith("CANCELLED  epoch ")
    assert "to go" not in bar
    assert re.fullmatch(rf"{job} CANCELLED after [\d.]+ (min \d\d )?m?s", ended)
    assert re.fullmatch(r"  stopped on request: epoch [\d,]+, [\d,]+ steps", ending[0])
