"""Check that workers can load the plug-ins of a job, in the environment that they will have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Final, final

from dbp.errors import InvalidSpec, Violation
from dbp.job.spec.plugins import Plugin

PROBE_SECONDS: Final = 60.0

# Prints a JSON table: the reason for each kind that cannot be loaded, "" where it is not found.
PROBE: Final = """
import json, sys
from dbp.errors import InvalidSpec
from dbp.registry import component_class, kinds
problems = {}
for name in sys.argv[1:]:
    group, kind = name.split("/", 1)
    try:
        if kind not in kinds(group):
            problems[name] = ""
        else:
            component_class(group, kind)
    except InvalidSpec as error:
        problems[name] = error.violations[0].message
print(json.dumps(problems))
"""


@final
class WorkerPlugins:
    """Loads plug-ins in a process with the workers' environment; remembers those that load."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """``environment``: the variables of a launched worker."""
        self._environment = environment
        self._known: set[tuple[str, str]] = set()

    def check(self, plugins: Iterable[Plugin]) -> None:
        """Raise InvalidSpec, naming the fields, unless workers can load all of these kinds."""
        new = [p for p in plugins if (p.group, p.kind) not in self._known]
        if not new:
            return
        problems = self._problems(new)
        violations = []
        for plugin in new:
            problem = problems.get(f"{plugin.group}/{plugin.kind}")
            if problem is None:
                self._known.add((plugin.group, plugin.kind))
            else:
                violations.append(Violation(plugin.path, _message(plugin, problem)))
        if violations:
            raise InvalidSpec(violations)

    def _problems(self, plugins: Iterable[Plugin]) -> dict[str, str]:
        names = [f"{plugin.group}/{plugin.kind}" for plugin in plugins]
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", PROBE, *names],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
            problems: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            return dict.fromkeys(names, f"it takes more than {PROBE_SECONDS:g} s to load")
        except (ValueError, IndexError):
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return dict.fromkeys(names, f"Python ended: {lines[-1]}")
        return problems


def _message(plugin: Plugin, problem: str) -> str:
    what = f"{plugin.kind!r} of package {plugin.package}"
    if problem:
        return f"the service's workers cannot load {what}: {problem}"
    return (
        f"the service finds {what}, but its workers do not: they inherit neither PYTHONPATH "
        f"nor the service's folder. Install the package (pip install {plugin.package}), or "
        "restart the service with --pass-env PYTHONPATH"
    )
