"""The architecture as a checked contract: who may import whom, and how long a module may be."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dbp"

# Package (or module) -> its allowed imports, from dbp and from outside; function-level imports
# included. The most specific row counts. "*" marks the composition roots, which alone know
# several worlds.
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "": (  # for types only
        {"client", "errors", "estimators", "job", "plugin", "registry", "testing", "train.fit",
         "train.model.class_report", "train.model.fitted_model"},
        set(),
    ),
    "errors": (set(), set()),
    "exit_codes": (set(), set()),
    "random": (set(), {"numpy"}),
    "registry": ({"errors", "json_value", "option_types"}, set()),
    "column_names": ({"data_access", "errors", "quantities"}, set()),
    "file_pattern": ({"data_access"}, set()),
    "data_access": ({"data_roots", "errors"}, set()),
    "data_roots": ({"json_value", "openat2", "storage.state_folder"}, set()),
    "openat2": (set(), set()),
    "json_value": (set(), set()),
    "lossy_output": (set(), set()),
    "plugin_faults": (set(), set()),
    "prctl": (set(), set()),
    "log_fields": (set(), set()),
    "printable": (set(), set()),
    "process_stat": (set(), set()),
    "heartbeat": ({"process_stat"}, set()),
    "option_names": (set(), set()),
    "option_types": (set(), set()),
    "quantities": (set(), set()),
    "text_table": (set(), set()),
    "cgroup": (set(), set()),
    "cores": ({"cgroup"}, set()),
    "memory": ({"cgroup"}, set()),
    "launching": ({"cores", "errors", "quantities"}, {"threadpoolctl"}),
    "job": (
        {"data_access", "data_roots", "errors", "file_pattern", "json_value", "option_types",
         "plugin_faults", "printable", "quantities", "registry"},
        set(),
    ),
    "nn": ({"errors", "quantities", "registry", "random"}, {"numpy"}),
    "optim": ({"errors", "quantities", "registry", "random"}, {"numpy"}),
    "data": (
        {"errors", "quantities", "registry", "random", "data_access", "data_roots",
         "file_pattern", "column_names", "printable"},
        {"numpy"},
    ),
    "data.hdf5_file": ({"data_access", "errors"}, {"numpy", "h5py"}),
    "data.parquet_table": ({"data_access", "errors", "column_names"}, {"numpy", "pyarrow"}),
    "parallel": ({"errors", "launching", "quantities"}, {"numpy"}),
    "parallel.mpi": ({"errors", "launching", "parallel", "quantities"}, {"numpy", "mpi4py"}),
    "train": (
        {"errors", "exit_codes", "registry", "random", "column_names", "data_access",
         "file_pattern",
         "heartbeat.phase", "job", "json_value", "nn", "option_names", "optim", "data",
         "parallel", "plugin_faults", "printable",
         "quantities", "storage", "text_table"},
        {"numpy"},
    ),
    "train.check.arithmetic": ({"quantities"}, {"numpy", "threadpoolctl"}),
    "train.blas_threads": (set(), {"threadpoolctl"}),
    # It starts a run in a program that it does not own, perhaps one of several ranks.
    "train.fit": (
        {"data", "errors", "job", "launching", "parallel", "storage"}, {"numpy"},
    ),
    # A checksum of all parameters in every step: CRC32C runs at the speed of memory.
    "train.faults.digest": ({"nn"}, {"numpy", "google_crc32c"}),
    "train.onnx": ({"errors", "registry", "nn", "data", "train"}, {"numpy", "onnx"}),
    "estimators": (
        {"errors", "job.spec", "train.fit", "train.model.fitted_model"}, {"numpy"},
    ),
    "estimators.scikit_learn": ({"errors"}, {"sklearn"}),
    "storage": ({"errors", "json_value", "quantities"}, set()),
    "access": ({"errors", "json_value", "quantities", "storage"}, {"platformdirs"}),
    "launch": (
        {"data_access", "data_roots", "errors", "heartbeat", "job", "json_value", "launching",
         "prctl", "process_stat", "quantities", "registry", "storage"},
        {"psutil"},
    ),
    "versions": ({"errors", "job", "printable", "storage"}, set()),
    "versions.cast": ({"errors"}, {"numpy", "ml_dtypes"}),
    "jobs": (
        {"errors", "heartbeat.phase", "job", "json_value", "launch", "log_fields", "quantities",
         "storage", "versions"},
        set(),
    ),
    "backup": (
        {"errors", "jobs.job_rows", "json_value", "launch.attempt_files", "launch.exit_record",
         "launch.file_lock", "storage", "versions.tables"},
        set(),
    ),
    "rpc": (
        {"access", "errors", "job", "json_value", "lossy_output", "option_names", "printable",
         "registry", "storage.atomic_file", "v1"},
        {"grpc", "google"},
    ),
    "rpc.profile": ({"errors"}, {"platformdirs"}),
    "link": ({"errors", "job", "lossy_output", "option_names", "rpc", "v1"}, {"grpc"}),
    "link.messages": ({"job", "json_value"}, set()),
    "link.process": ({"exit_codes", "lossy_output", "option_names"}, set()),
    # These live in rank 0: no gRPC.
    "link.child": (set(), set()),
    "link.keeper": (set(), set()),
    "link.left_best": (
        {"job", "link.messages", "storage.atomic_file", "train.report.sink"}, set()
    ),
    "link.undelivered": ({"job"}, set()),
    # It implements the loop's Sink and Control, so it may see their definition.
    "link.reporter": (
        {"errors", "heartbeat.slots", "job", "json_value", "link.messages", "option_names",
         "train.report.sink"},
        set(),
    ),
    "service": (
        {"access", "errors", "job", "jobs", "json_value", "log_fields", "printable",
         "quantities", "registry", "rpc", "v1", "versions"},
        {"grpc", "google"},
    ),
    # Imported when a job is checked, and by the process that checks one.
    "service.job_check": (
        {"access.principal", "data.many_files", "data_access", "data_roots", "errors", "job",
         "jobs.checks", "json_value", "launch.launcher", "memory", "rpc.spec_convert", "train"},
        set(),
    ),
    "service.check_pool": ({"data_roots", "errors", "jobs.checks", "quantities"}, set()),
    "service.check_process": (
        {"data.reading", "data_roots", "errors", "job", "train"}, set(),
    ),
    "service.parameters.encoded": ({"versions"}, {"google_crc32c"}),
    "service.job_access": ({"access", "errors", "job", "rpc.scalar_convert"}, set()),
    "service.inference": (
        {"errors", "inference", "job", "jobs.live_parameters", "quantities",
         "rpc.scalar_convert", "versions"}, set(),
    ),
    "service.inference.service": (
        {"errors", "inference", "jobs", "quantities", "rpc.channel", "versions"},
        {"google", "grpc"},
    ),
    "service.inference.answers": ({"errors", "inference", "quantities", "train"}, {"numpy"}),
    "service.inference.signature": ({"errors", "rpc", "train"}, set()),
    "service.inference.model_loading": (
        {"errors", "job", "memory", "nn", "quantities", "train", "versions"}, {"numpy"},
    ),
    "service.inference.tensor_codec": (
        {"errors", "inference", "quantities"}, {"numpy", "ml_dtypes"},
    ),
    "service.admin_service": (
        {"backup.staging", "jobs.manager", "rpc.scalar_convert", "storage", "v1"},
        {"grpc", "google"},
    ),
    "service.reflection": (set(), {"grpc", "google", "grpc_reflection"}),
    "service.server": ({"*"}, {"grpc", "grpc_health"}),
    "service.process": ({"errors", "launch.launcher"}, set()),
    "client": (
        {"access", "errors", "column_names", "inference", "job", "json_value", "option_names",
         "printable", "quantities", "registry", "rpc", "storage", "v1"},
        {"grpc", "google", "numpy", "ml_dtypes", "google_crc32c"},
    ),
    "client.health": ({"rpc"}, {"grpc_health"}),
    "worker": ({"*"}, {"numpy"}),
    "bench": (
        {"cores", "errors", "json_value", "launch.scratch", "launching", "prctl",
         "quantities", "text_table"},
        set(),
    ),
    "bench.measurement": (
        {"errors", "job.spec.job_spec", "launch.scratch", "launching", "prctl", "quantities"},
        set(),
    ),
    "bench.samples": ({"data", "job", "nn", "train.run_spec"}, {"numpy"}),
    # Programs, each run in processes of its own.
    "bench.dbp_rank": ({"job", "launching", "train", "worker"}, set()),
    "bench.products": ({"worker"}, {"numpy"}),
    "bench.torch_peer": ({"worker"}, {"torch"}),
    "bench.jax_peer": ({"worker"}, {"jax"}),
    "plot": ({"errors", "printable", "text_table"}, {"numpy"}),
    "plot.job_source": ({"client", "errors"}, set()),
    "plot.run_source": ({"errors", "train.report"}, set()),
    "plot.terminal": ({"errors", "printable", "text_table"}, {"plotext"}),
    "plot.curve_picture": ({"printable"}, {"matplotlib"}),
    "plot.confusion": ({"printable"}, {"numpy", "matplotlib"}),
    "plot.picture": ({"errors"}, {"matplotlib"}),
    "plugin": ({"data", "errors", "nn", "optim", "registry", "train.sinks"}, set()),
    "testing": ({"*"}, {"numpy"}),
    "cli": ({"*"}, {"click", "rich", "numpy", "platformdirs", "psutil", "threadpoolctl"}),
    "cli.metrics.parquet": (set(), {"pyarrow"}),
    "__main__": ({"cli", "exit_codes"}, set()),
}  # fmt: skip

# Sub-package -> its allowed imports from the rest of its own package.
WITHIN: dict[str, set[str]] = {
    "cli.arguments": set(),
    "cli.compare": {"cli.arguments", "cli.screen"},
    "cli.doctor": {"cli.screen"},
    "cli.metrics": {"cli.arguments", "cli.screen"},
    "cli.mpirun": set(),
    "cli.params": {"cli.arguments", "cli.screen"},
    "cli.predict": {"cli.arguments", "cli.screen"},
    "cli.screen": set(),
    "cli.train": {"cli.mpirun", "cli.screen"},
    "client.transport": {"client.arguments"},
    "service.inference": {"service.guarded_server", "service.job_access"},
    "service.parameters": {"service.guarded_server", "service.job_access"},
    "train.onnx": {"train.model"},
}

# The training loop, and the packages of train that never import it.
LOOP = ("train.trainer", "train.step", "train.lockstep")
OUTSIDE_THE_LOOP = ("train.faults", "train.model", "train.onnx", "train.report", "train.state")

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 50

# Where another process may be started: the launcher's side, the link, commands that show or
# check other programs, and the parent of mpirun, which owns the terminal.
MAY_START_PROCESSES = (
    "bench/measurement.py", "launch/", "link/child.py", "cli/demo.py", "cli/mpirun/parent.py",
    "cli/doctor/probe.py", "service/check_pool.py", "optim/compiled.py",
)  # fmt: skip

MAY_USE_SQLITE = (
    "storage/", "jobs/ended_jobs.py", "jobs/event_table.py", "jobs/job_rows.py",
    "jobs/metric_query.py", "jobs/metric_tables.py", "jobs/metrics_history.py",
    "jobs/record_mirror.py", "jobs/recovery.py", "jobs/report_queue.py", "jobs/salvage.py",
    "jobs/store.py", "versions/tables.py",
)  # fmt: skip

GENERATED = ("inference", "v1")
MODULES = sorted(
    p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] not in GENERATED
)
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]


def module_name(path: Path) -> str:
    """``parallel.mpi`` for dbp/parallel/mpi.py, ``parallel`` for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def row_of(name: str) -> str:
    while name not in ALLOWED:
        assert "." in name, f"dbp.{name} has no row in the table: what may it import?"
        name = name.rpartition(".")[0]
    return name


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_follow_the_table(path: Path) -> None:
    import sys

    name = module_name(path)
    row = row_of(name)
    inside, outside = ALLOWED[row]
    package = name.partition(".")[0]
    for line, imported in imports(path):
        top, _, rest = imported.partition(".")
        where = f"{path.relative_to(ROOT)}:{line}: imports {imported}"
        if top == "dbp":
            own = package != "" and is_under(rest, package)
            allowed = own or "*" in inside or any(is_under(rest, entry) for entry in inside)
            assert allowed, f"{where}, but dbp.{row} may import only {sorted(inside)}"
        elif top not in sys.stdlib_module_names:
            assert top in outside, f"{where}, but dbp.{row} may import only {sorted(outside)}"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_sub_packages_import_only_named_parts_of_their_package(path: Path) -> None:
    name = module_name(path)
    package, _, rest = name.partition(".")
    sub_package = f"{package}.{rest.partition('.')[0]}"
    allowed = WITHIN.get(sub_package)
    for line, imported in imports(path):
        other = imported.removeprefix("dbp.")
        where = f"{path.relative_to(ROOT)}:{line}: imports {imported}"
        if sub_package in OUTSIDE_THE_LOOP:
            assert not any(is_under(other, part) for part in LOOP), where
        if (
            allowed is not None
            and is_under(other, package)
            and not is_under(other, sub_package)
        ):
            assert any(is_under(other, entry) for entry in allowed), (
                f"{where}, but dbp.{sub_package} may import only {sorted(allowed)} of {package}"
            )


def package_imports() -> dict[str, set[str]]:
    """The other packages that each package imports; ``worker`` and ``plugin`` count as such."""
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    found: dict[str, set[str]] = {name: set() for name in packages | {"worker", "plugin"}}
    for path in MODULES:
        importer = module_name(path).partition(".")[0]
        for _, imported in imports(path):
            top, _, rest = imported.partition(".")
            other = rest.partition(".")[0]
            if top == "dbp" and importer in found and other in packages - {importer}:
                found[importer].add(other)
    return found


def test_the_readme_names_every_package_and_its_imports() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## What's where\n")[2]
    rows = re.findall(r"^\| (`.*) \| .* \| (.*) \|$", section, re.MULTILINE)
    actual = package_imports()
    seen: list[str] = []

    for names, imported in rows:
        for name in (name.removesuffix(".py") for name in re.findall(r"`(\S+)`", names)):
            named = set(re.findall(r"`(\w+)`", imported))
            if name != "cli":  # it may import all of them
                assert named == actual[name], f"README's row of {name}"
                assert named <= set(seen), f"README's row of {name} is above what it imports"
            seen.append(name)
    assert sorted(seen) == sorted(actual)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_modules_are_short(path: Path) -> None:
    text = path.read_text()

    assert len(text.splitlines()) <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                length = (body[-1].end_lineno or 0) - body[0].lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_no_module_runs_foreign_code_or_shells(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    imported = {module.partition(".")[0] for _, module in imports(path)}

    assert not imported & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    assert not re.search(
        r"allow_pickle|shell\s*=\s*True|os\.system\(|\beval\(|\bexec\(", path.read_text()
    )
    if not name.startswith(MAY_START_PROCESSES):
        assert "subprocess" not in imported
    if not name.startswith(MAY_USE_SQLITE):
        assert "sqlite3" not in imported


def test_every_package_says_what_it_is_for() -> None:
    for init in PACKAGE.rglob("*/__init__.py"):
        if init.relative_to(PACKAGE).parts[0] not in GENERATED:
            assert ast.get_docstring(ast.parse(init.read_text())), init


def test_the_top_level_holds_only_what_it_should() -> None:
    allowed = {"README.md", "pyproject.toml", "dbp", "protos", "deploy", "tests"}
    allowed |= {"Makefile", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md"}

    visible = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}

    assert visible - allowed - {"runs", "build", "dist"} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for types only count as well."""
    names = {module_name(path): path for path in MODULES}

    def imported_modules(path: Path) -> Iterator[str]:
        for _, imported in imports(path):
            top, _, name = imported.partition(".")
            while top == "dbp" and name and name not in names:
                name = name.rpartition(".")[0]
            if top == "dbp" and name and names[name] != path:
                yield name

    graph = {name: set(imported_modules(path)) for name, path in names.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
