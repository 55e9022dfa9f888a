"""The checks of a job before it is acknowledged: spec, paths, files, memory, plug-ins.

Data that are cheap to check are checked in a thread of the service; others in a process of
their own, which can be ended, by ``dbp.service.check_process``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dbp.access.principal import CALLER
from dbp.data_access import DataAccess, status_of, using
from dbp.data_roots import DataRoots
from dbp.errors import InvalidSpec, Violation
from dbp.jobs.checks import Check, Checked, NotCheapError
from dbp.json_value import JsonObject
from dbp.launch.launcher import Launcher
from dbp.memory import usable_memory
from dbp.rpc.spec_convert import check_size

if TYPE_CHECKING:
    from dbp.job.spec.plugins import Plugin
    from dbp.job.spec.resolve import ResolvedSpec

# What a check may read in a thread of the service.
CHEAP_BYTES: Final = 4 * 2**20
CHEAP_FILES: Final = 100

# Larger data are checked after the job was acknowledged, all but headers and first rows.
WHOLE_BYTES: Final = 64 * 2**20


def job_check(
    data_roots: Sequence[Path] | None, launcher: Launcher, allowed_sinks: Collection[str] = ()
) -> Check:
    """Return the check of a job; it raises NotCheapError where the data take a process.

    ``data_roots``: folders below which files may be read; None: any by callers on the socket,
    who are the service's own user, and none by others. ``allowed_sinks``: kinds of sinks of
    plug-ins that a job may name.
    """
    given = None if data_roots is None else DataRoots.of(data_roots)

    def check(document: JsonObject, workers: int) -> Checked:
        from dbp.job.spec.plugins import plugins_of
        from dbp.job.spec.resolve import resolve

        caller = CALLER.get(None)
        is_own = caller is not None and caller.is_local
        roots = given if given is not None or is_own else DataRoots(())
        resolved = resolve(document, data_roots=roots)
        plugins = plugins_of(resolved)
        _check_sinks(plugins, allowed_sinks)
        launcher.check_plugins(plugins)
        check_size(resolved.document)
        with using(DataAccess(roots)):
            cost = _cost(resolved)
        if cost.can_crash or cost.bytes > CHEAP_BYTES or cost.files > CHEAP_FILES:
            is_whole = cost.bytes <= WHOLE_BYTES
            raise NotCheapError(whole=is_whole, confined=roots is not None)
        return check_whole(resolved, workers, roots)

    return check


def _check_sinks(plugins: Iterable[Plugin], allowed: Collection[str]) -> None:
    """Raise InvalidSpec, naming the fields, for sinks of plug-ins that are not allowed."""
    refused = [
        Violation(
            plugin.path,
            f"the service does not allow the sink {plugin.kind!r} of package {plugin.package}; "
            f"remove it, or restart the service with --allow-sink {plugin.kind}",
        )
        for plugin in plugins
        if plugin.group == "sinks" and plugin.kind not in allowed
    ]
    if refused:
        raise InvalidSpec(refused)


def run_check(document: JsonObject, workers: int) -> Checked:
    """Check the spec of a run started by hand; its files may be on another machine."""
    from dbp.job.spec.resolve import resolve

    resolved = resolve(document)
    check_size(resolved.document)
    return Checked(resolved.document, resolved.digest)


def check_whole(resolved: ResolvedSpec, workers: int, roots: DataRoots | None) -> Checked:
    """Check the data and the memory of a resolved spec. Raises as ``inspect``; WrongState."""
    from dbp.train.check.inspection import inspect
    from dbp.train.check.memory import check_memory

    with using(access := DataAccess(roots)):
        inspected = inspect(resolved, workers)
    check_memory(inspected, workers, usable_memory())
    return Checked(
        resolved.document,
        resolved.digest,
        inspected.notes(),
        access.digest(),
        confined=access.is_confined,
    )


def check_head(resolved: ResolvedSpec, roots: DataRoots | None) -> Checked:
    """Check the headers and first rows of the data. Raises as ``inspect``."""
    from dbp.train.check.inspection import inspect_heads

    with using(DataAccess(roots)):
        inspect_heads(resolved)
    return Checked(resolved.document, resolved.digest, is_whole=False)


class _Cost(NamedTuple):
    """Bytes that a check reads of the data, and their files; ``can_crash``: see Reader."""

    bytes: int
    files: int
    can_crash: bool


def _cost(resolved: ResolvedSpec) -> _Cost:
    from dbp.data.many_files import file_options, matching
    from dbp.errors import InvalidData
    from dbp.train.run_spec import run_spec

    spec = run_spec(resolved)
    size, count, can_crash = 0, 0, False
    for reader in (spec.train_reader, spec.validation_reader, spec.test_reader):
        if reader is None:
            continue
        can_crash |= reader.can_crash
        for path in file_options(reader).values():
            try:
                files = matching(path)
            except InvalidData:
                continue  # the check says so
            count += len(files)
            if reader.reads_to_inspect:
                size += sum(map(_size, files[:CHEAP_FILES]))
    return _Cost(size, count, can_crash)


def _size(path: str) -> int:
    try:
        return status_of(path).st_size
    except (OSError, ValueError):
        return 0
