"""A package of its own adds kinds: installed by pip, named in a spec, trained by mpirun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from dbp.errors import InvalidSpec
from dbp.job.spec.plugins import Plugin
from dbp.launch.worker_plugins import WorkerPlugins
from dbp.launching import launch_environment
from dbp.registry import GROUPS
from tests.cli.setups import Server
from tests.deadline import DEADLINE
from tests.train.fit_setups import numbers_of

EXAMPLE = Path(__file__).parents[1] / "plugin_example"
DBP = [sys.executable, "-m", "dbp"]
KINDS = {
    "layers": "softsign_gain",
    "losses": "log_cosh",
    "optimizers": "signum",
    "readers": "waves",
    "sinks": "epoch_table",
}

CONTRACTS = """
import os
import numpy as np
from dbp.registry import component_class
from dbp.testing import check_layer, check_loss, check_optimizer, check_sink

layer = component_class("layers", "softsign_gain")
for shape in [(5,), (2, 3), (1,)]:
    check_layer(layer(gain=0.5), shape)
loss = component_class("losses", "log_cosh")
for shape in [(4,), (2, 2), (1,), ()]:
    check_loss(loss(), shape)
check_optimizer(component_class("optimizers", "signum")(momentum=0.5))
check_sink(component_class("sinks", "epoch_table")(path=os.devnull))

reader = component_class("readers", "waves")(samples=30)
data = reader.open()
assert data.info == reader.inspect(), (data.info, reader.inspect())
x, y = np.empty((2, 2)), np.empty((2, 1))
data.take_inputs(np.array([29, 0]), x)
data.take_targets(np.array([29, 0]), y)
assert np.abs(y - np.sin(2 * x[:, :1]) * np.cos(x[:, 1:])).max() < 0.1
print("kept")
"""


def run(*command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command, with the folder of the installed example on its path if given."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if folder is not None:
        environment["PYTHONPATH"] = str(folder)
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed by pip into a folder of its own, without a network."""
    folder = tmp_path_factory.mktemp("site")
    done = run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
        "--no-index", "--no-deps", "--no-build-isolation", "--target", str(folder),
        str(EXAMPLE),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_environment_itself_is_untouched(installed: Path) -> None:
    found = run(sys.executable, "-c", "import dbp_example")
    named = run(*DBP, "components", "softsign_gain")

    assert (installed / "dbp_example" / "signum.py").exists()
    assert "No module named 'dbp_example'" in found.stderr
    assert named.returncode == 2
    assert not list(Path(sysconfig.get_path("purelib")).glob("dbp_example*"))
    assert {path.name for path in EXAMPLE.iterdir()} == {
        "dbp_example", "job.toml", "pyproject.toml",
    }  # fmt: skip


def test_the_kinds_are_listed_beside_the_built_in_ones(installed: Path) -> None:
    done = run(*DBP, "components", "--output", "json", folder=installed)

    assert done.returncode == 0, done.stderr
    catalogue = json.loads(done.stdout)
    found = {(info["group"], info["kind"]): info for info in catalogue}
    assert {info["group"] for info in catalogue} == set(GROUPS)
    for group, kind in KINDS.items():
        assert not found[group, kind]["problem"]
        assert found[group, kind]["doc"]
    (gain,) = found["layers", "softsign_gain"]["options"]
    assert (gain["name"], gain["default"], gain["limits"]) == ("gain", 1.0, "> 0")
    assert ("layers", "dense") in found


def test_the_kinds_keep_the_contracts(installed: Path) -> None:
    done = run(sys.executable, "-W", "error", "-c", CONTRACTS, folder=installed)

    assert (done.returncode, done.stdout) == (0, "kept\n"), done.stderr


def test_a_bad_option_of_a_plug_in_is_reported_like_one_of_dbp(
    installed: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "job.toml"
    spec.write_text((EXAMPLE / "job.toml").read_text().replace("gain = 2.0", "gain = -2.0"))

    done = run(*DBP, "spec", "check", str(spec), folder=installed)

    assert done.returncode == 2
    assert "model.layers[1].gain" in done.stderr
    assert "> 0" in done.stderr


def test_a_job_of_these_kinds_is_proved_before_it_runs(installed: Path) -> None:
    done = run(*DBP, "check", str(EXAMPLE / "job.toml"), folder=installed)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "gradient  1.gain (24): 24 of 24 elements agree" in done.stdout
    assert done.stdout.endswith("0 warnings, 0 failed\n")


def test_a_job_of_these_kinds_trains_on_one_and_on_two_ranks_to_the_same_bits(
    installed: Path, tmp_path: Path
) -> None:
    files = set()
    for ranks in ("1", "2"):
        folder = tmp_path / ranks
        done = run(
            *DBP, "train", str(EXAMPLE / "job.toml"), "-n", ranks, "--run", str(folder),
            "--quiet", folder=installed,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = json.loads((folder / "result.json").read_text())
        assert result["status"] == "succeeded"
        assert result["metrics"]["test_mean_absolute_error"] < 0.1, result["metrics"]
        files.add((folder / "parameters.safetensors").read_bytes())

    assert len(files) == 1


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_ranks_find_kinds_where_their_command_does(
    installed: Path, tmp_path: Path, ranks: str
) -> None:
    """``python -m dbp`` looks in the present folder, ``dbp`` does not."""
    arguments = ["train", str(EXAMPLE / "job.toml"), "-n", ranks, "--quiet", "--run"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    codes: dict[int, tuple[int, bool]] = {}
    for command in (
        [sys.executable, "-m", "dbp"],
        [str(Path(sys.executable).with_name("dbp"))],
    ):
        done = subprocess.run(
            [*command, *arguments, str(tmp_path / str(len(codes)))], cwd=installed,
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DEADLINE,
        )  # fmt: skip
        codes[len(codes)] = done.returncode, "unknown 'softsign_gain'" in done.stderr

    assert codes == {0: (0, False), 1: (2, True)}


def test_a_service_refuses_kinds_that_its_workers_lack(installed: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "state", variables={"PYTHONPATH": str(installed)}) as server:
        done = run(
            *DBP, "submit", str(EXAMPLE / "job.toml"), "--service", server.address,
            folder=installed,
        )  # fmt: skip

    assert done.returncode == 2, done.stdout + done.stderr
    for path, kind in (
        ("data.train", "waves"),
        ("model.layers[1]", "softsign_gain"),
        ("model.loss", "log_cosh"),
        ("optimizer", "signum"),
    ):
        assert f"{path}: the service finds '{kind}' of package dbp-example, but" in done.stderr
    assert "pip install dbp-example" in done.stderr
    assert "restart the service with --pass-env PYTHONPATH" in done.stderr


def with_sink(folder: Path, table: Path) -> Path:
    """The example's job, short, with its sink."""
    job = folder / "job.toml"
    text = (EXAMPLE / "job.toml").read_text().replace("epochs = 80", "epochs = 3")
    sink = f"{{ kind = 'epoch_table', path = '{table}' }}"
    job.write_text(f"{text}\n[report]\nsinks = [{sink}, 'log']\n")
    return job


def test_a_sink_of_a_spec_gets_the_epochs_on_rank_0(installed: Path, tmp_path: Path) -> None:
    job, table = with_sink(tmp_path, tmp_path / "table.csv"), tmp_path / "table.csv"
    plain = tmp_path / "plain.toml"
    plain.write_text(job.read_text().partition("[report]")[0])
    for file in (job, plain):
        done = run(
            *DBP, "train", str(file), "-n", "2", "--run", str(tmp_path / file.stem), "--quiet",
            folder=installed,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if file == job:
            events = [json.loads(x) for x in done.stderr.splitlines() if x.startswith("{")]

    rows = [line.split(",")[:2] for line in table.read_text().splitlines()]
    assert rows == [["12", "1"], ["24", "2"], ["36", "3"]]
    names = [event["event"] for event in events]
    assert names == ["start", "epoch", "epoch", "epoch", "evaluation", "end"]
    assert events[-1]["status"] == "succeeded"
    one, other = (numbers_of(tmp_path / n / "parameters.safetensors") for n in ("job", "plain"))
    assert one == other


@pytest.mark.parametrize("allowed", [False, True])
def test_a_service_runs_the_sinks_that_its_operator_allows(
    installed: Path, tmp_path: Path, *, allowed: bool
) -> None:
    job, table = with_sink(tmp_path, tmp_path / "table.csv"), tmp_path / "table.csv"
    options = ["--allow-sink", "epoch_table"] if allowed else []
    server = Server(
        tmp_path / "state", "--pass-env", "PYTHONPATH", *options,
        variables={"PYTHONPATH": str(installed)},
    )  # fmt: skip

    with server:
        done = run(
            *DBP, "submit", str(job), "--watch", "--service", server.address, folder=installed
        )

    if allowed:
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(table.read_text().splitlines()) == 3
    else:
        assert done.returncode == 2
        assert (
            "report.sinks[0]: the service does not allow the sink 'epoch_table'" in done.stderr
        )
        assert "restart the service with --allow-sink epoch_table" in done.stderr
        assert "report.sinks[1]" not in done.stderr
        assert not table.exists()


OPENING = """
import sys
import numpy as np
from dbp.data_access import DataAccess, using
from dbp.data_roots import DataRoots
from dbp.errors import InvalidData
from dbp.registry import component_class

root = sys.argv[1]
doubles = component_class("readers", "doubles")
with using(DataAccess(DataRoots.of([root]))):
    reader = doubles(path=f"{root}/rows", columns=3)
    data = reader.open()
    assert data.info == reader.inspect(), (data.info, reader.inspect())
    y = np.empty((1, 1))
    data.take_targets(np.array([1]), y)
    assert y == 5.0, y
    for name in ("out", ".hidden", "../rows"):
        for read in (lambda r: r.open(), lambda r: r.inspect()):
            try:
                read(doubles(path=f"{root}/{name}", columns=3))
            except InvalidData as error:
                print(str(error).removeprefix(root))
"""


def test_a_reader_of_files_stays_within_the_folders_of_the_job(
    installed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for path in (root / "rows", root / ".hidden", tmp_path / "rows"):
        path.write_bytes(np.arange(6, dtype="<f8").tobytes())
    (root / "out").symlink_to("../rows")

    done = run(sys.executable, "-W", "error", "-c", OPENING, str(root), folder=installed)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[::2] == lines[1::2]
    assert [line.partition(": ")[2][:40] for line in lines[::2]] == [
        "leads outside the data folders by a link",
        "names that begin with a dot are not read",
        "leads outside the data folders",
    ]


def test_a_service_passes_on_what_its_operator_names(installed: Path, tmp_path: Path) -> None:
    server = Server(
        tmp_path / "state", "--pass-env", "PYTHONPATH", variables={"PYTHONPATH": str(installed)}
    )

    with server:
        done = run(
            *DBP, "submit", str(EXAMPLE / "job.toml"), "--workers", "2", "--watch",
            "--service", server.address, folder=installed,
        )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCEEDED" in done.stdout


def test_a_kind_that_workers_cannot_load_is_refused_with_the_reason(tmp_path: Path) -> None:
    # Installed for all, but what it imports is on the service's PYTHONPATH only.
    site, extra = tmp_path / "site", tmp_path / "extra"
    information = site / "half-1.0.dist-info"
    information.mkdir(parents=True)
    extra.mkdir()
    (extra / "half_there.py").write_text("factor = 2.0\n")
    (site / "half.py").write_text(
        "from dataclasses import dataclass\n"
        "from half_there import factor\n"
        "from dbp.nn.relu import ReLU as Half\n"
    )
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[dbp.layers]\nhalf = half:Half\n")
    plugin = Plugin("layers", "half", "half", "model.layers[0]")
    workers = WorkerPlugins(launch_environment(1) | {"PYTHONPATH": str(site)})

    with pytest.raises(InvalidSpec) as raised:
        workers.check([plugin])

    [violation] = raised.value.violations
    assert violation.path == "model.layers[0]"
    assert "workers cannot load 'half' of package half: " in violation.message
    assert "No module named 'half_there'" in violation.message
    both = f"{site}{os.pathsep}{extra}"
    WorkerPlugins(launch_environment(1) | {"PYTHONPATH": both}).check([plugin])
