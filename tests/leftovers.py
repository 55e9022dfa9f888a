"""pytest plugin: a test that leaves processes or files fails, and nothing stays.

After each test's teardown it looks for living processes and for entries of the temporary
folders (TMPDIR and /dev/shm, see `tests.warden`) that no wider fixture has made, waits
`leftover_grace` seconds for them to go, ends them and fails the test. A timeout ends the
processes of a test first, so that its `finally` and its fixtures do not wait for them.

A test that calls dbp in this process may change the handling of signals, which is restored:
later tests' processes would inherit signals that are ignored.

It also keeps the marker `processes`: see `starts_processes`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import psutil
import pytest

from tests.warden import Guarded, guard, kill, remove

TEARDOWN_SECONDS = 120.0
STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCONT)
STARTING = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"}
# Written once, when ONNX Runtime and PyTorch are imported.
ALLOWED_FILES = (".ses", "torchinductor_")
GUARDED = pytest.StashKey[Guarded]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """A process that ends on its own needs a while on a busy machine."""
    parser.addini("leftover_grace", "seconds to wait for leftovers to go", default="15")


def pytest_configure(config: pytest.Config) -> None:
    """Fork the warden, before anything has started a thread."""
    if config.option.collectonly:
        return
    guarded = guard()
    config.stash[GUARDED] = guarded
    catch_ignored_signals()
    leftovers = Leftovers(guarded, float(config.getini("leftover_grace")))
    config.pluginmanager.register(leftovers, "leftovers")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The warden does this again: this is for the case that it was killed."""
    guarded = config.stash.get(GUARDED, None)
    if guarded:
        kill(guarded.processes)
        remove(guarded.folders)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of modules that start processes by themselves."""
    for item in items:
        if isinstance(item, pytest.Function) and starts_processes(item.module):
            item.add_marker(pytest.mark.processes)


def starts_processes(module: ModuleType) -> bool:
    """Whether a test module imports subprocess, or something from a module of tests that does.

    Modules whose processes are started by dbp itself carry the marker in `pytestmark`.
    """
    seen = vars(module).values()
    sources = {getattr(value, "__module__", None) for value in seen}
    names = sorted(name for name in sources if isinstance(name, str))
    setups = [sys.modules[name] for name in names if name.startswith("tests.")]
    values = [value for each in (module, *setups) for value in vars(each).values()]
    return any(value is subprocess for value in values)


def catch_ignored_signals() -> None:
    """Do nothing on the signals that this process was started to ignore (nohup, a script's &).

    Programs that tests start would inherit that they are ignored; a handler ends with exec.
    """
    for number in STOPS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


class Leftovers:
    """Attributes processes and files to tests and to fixtures of a wider scope."""

    def __init__(self, guarded: Guarded, grace: float) -> None:
        self._guarded = guarded
        self._grace = grace
        self._of_fixtures: dict[Any, tuple[set[psutil.Process], set[Path]]] = {}
        self._item: pytest.Item | None = None
        self._starts = 0  # events since the last look
        self._unmarked = False
        self._starting = frozenset(STARTING)  # an audit hook outlives the module's globals
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _: Any) -> None:
        if event in self._starting and self._item is not None:
            self._starts += 1
            if self._item.get_closest_marker("processes") is None:
                self._unmarked = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Remember which test runs."""
        self._item = item
        handlers = {number: signal.getsignal(number) for number in STOPS}
        try:
            return (yield)
        finally:
            self._item = None
            for number, handler in handlers.items():
                if handler is not None:  # None: not Python's
                    signal.signal(number, handler)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        """Keep the processes of a fixture for more than one test as long as the fixture."""
        if fixturedef.scope == "function":
            return (yield)
        processes, entries = set(self._processes()), set(self._guarded.entries())
        try:
            return (yield)
        finally:
            new = set(self._processes()) - processes, set(self._guarded.entries()) - entries
            if any(new):
                self._of_fixtures[fixturedef] = new

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        """From here on nothing of the fixture may be there."""
        self._of_fixtures.pop(fixturedef, None)

    @pytest.hookimpl(wrapper=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> Generator[None, object, object]:
        """When the time is up, end the test's processes before the exception is raised."""
        result = yield
        fail = signal.getsignal(signal.SIGALRM)
        if callable(fail):

            def end_and_fail(number: int, frame: FrameType | None) -> None:
                __tracebackhide__ = True
                kill(self._left_processes)
                fail(number, frame)

            signal.signal(signal.SIGALRM, end_and_fail)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Look once all fixtures have had their turn."""
        # A fixture that waits for a process that never ends would hold up all tests.
        watchdog = threading.Timer(TEARDOWN_SECONDS, kill, [self._guarded.processes])
        if self._starts or self._of_fixtures:
            watchdog.start()
        try:
            return (yield)
        finally:
            watchdog.cancel()
            self._check(item)

    def _check(self, item: pytest.Item) -> None:
        deadline = time.monotonic() + self._grace
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._starts = 0
        problems = [f"process {each}" for each in kill(self._left_processes)] if left else []
        problems += [f"file {path}" for path in self._left_entries()]
        remove(self._left_entries())
        if problems:
            pytest.fail("left behind, and removed now: " + "; ".join(problems), pytrace=False)
        if self._unmarked:
            self._unmarked = False
            text = "it starts processes: give its module `pytestmark = pytest.mark.processes`"
            pytest.fail(text, pytrace=False)

    def _left(self) -> bool:
        return bool(self._left_entries() or self._left_processes())

    def _processes(self) -> list[psutil.Process]:
        """No test that has started none can have left one."""
        return self._guarded.processes() if self._starts or self._of_fixtures else []

    def _left_processes(self) -> list[psutil.Process]:
        """Return all but those of wider fixtures, and their descendants."""
        kept = {process for processes, _ in self._of_fixtures.values() for process in processes}
        return [
            process
            for process in self._processes()
            if process not in kept and not kept.intersection(_ancestors(process))
        ]

    def _left_entries(self) -> list[Path]:
        """All but those of wider fixtures, and of the supervisors of a fixture's service."""
        kept = {path for _, paths in self._of_fixtures.values() for path in paths}
        serving = any(processes for processes, _ in self._of_fixtures.values())
        return [
            path
            for path in self._guarded.entries()
            if path not in kept
            and not path.name.startswith(ALLOWED_FILES)
            and not (serving and path.name.startswith("dbp-"))
        ]


def _ancestors(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.parents()
    except psutil.Error:
        return []
