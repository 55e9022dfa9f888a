"""The wheel as users install it: its files, its metadata, and its types for their mypy."""

from __future__ import annotations

import email
import email.message
import re
import site
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.deadline import DEADLINE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "plugin_example" / "dbp_example"


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=DEADLINE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the working tree, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: set[str]) -> email.message.Message:
    (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel and, by path, its dependencies."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    python = folder / "bin" / "python"
    done = run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python,
        "install", "--quiet", "--no-index", "--no-deps", wheel,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    # Links to editable installs, such as dbp's own, are not followed from here.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return python


def checked(python: Path, *sources: Path) -> subprocess.CompletedProcess[str]:
    """What mypy says about programs of a user whose environment this is."""
    folder = sources[0].parent
    return run(
        sys.executable, "-m", "mypy", "--strict", "--python-executable", python,
        "--cache-dir", python.parents[2] / "cache", "--config-file", "", *sources,
        folder=folder,
    )  # fmt: skip


def test_the_wheel_has_the_package_its_types_and_no_tests(names: set[str]) -> None:
    files = {name for name in names if ".dist-info/" not in name}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "dbp").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert files == package
    assert "dbp/py.typed" in files


def test_the_wheel_has_the_licences_of_the_code_and_of_the_digits(
    wheel: Path, names: set[str], metadata: email.message.Message
) -> None:
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-4.0"
    listed = metadata.get_all("License-File", [])
    assert "LICENSE" in listed
    assert "dbp/data/embedded/LICENSE" in listed
    (folder,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    with zipfile.ZipFile(wheel) as archive:
        texts = [archive.read(f"{folder}/licenses/{name}").decode() for name in listed]
    assert any("Apache License" in text for text in texts)
    assert any("Creative Commons Attribution 4.0 International" in text for text in texts)


def test_the_metadata_name_versions_authors_and_places(
    metadata: email.message.Message,
) -> None:
    classifiers = metadata.get_all("Classifier", [])
    oldest = re.fullmatch(r">=3\.(\d+)", metadata["Requires-Python"])

    assert oldest is not None
    assert f"Programming Language :: Python :: 3.{oldest[1]}" in classifiers
    assert not [name for name in classifiers if name.startswith("License ::")]
    assert metadata["Author"]
    assert metadata["Keywords"]
    places = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    assert {"Homepage", "Documentation", "Source", "Changelog", "Issues"} <= places.keys()
    extras = {"bench", "hdf5", "mpi", "onnx", "parquet", "plot", "sklearn"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras


RIGHT = """
    import dbp
    from dbp import State

    with dbp.Client("127.0.0.1:5327", patience=3.0) as client:
        job = client.submit("job.toml", workers=2)
        found = job.parameters("0.*", wait=30, cast="BF16")
        reveal_type(found)
        if found is not None:
            reveal_type(list(found))
            reveal_type(found["0.weight"].shape)
        reveal_type(job.wait().state)
        for listed in client.jobs(State.RUNNING):
            reveal_type(listed.progress)
        try:
            job.publish(wait=1.0)
        except dbp.errors.Unavailable as error:
            reveal_type(error.metadata)
"""
REVEALED = [
    "dbp.client.parameter_set.ParameterSet | None",
    "list[str]",
    "tuple[Any, ...]",
    "dbp.job.state.State",
    "dbp.job.state.ProgressReport | None",
    "dict[str, str]",
]


def test_types_reach_the_programs_of_users(python: Path, tmp_path: Path) -> None:
    program = tmp_path / "right.py"
    program.write_text(textwrap.dedent(RIGHT))

    done = checked(python, program)

    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert [text.replace("builtins.", "") for text in found] == REVEALED


WRONG = [
    ("dbp.Clint", "Module has no attribute"),
    ("dbp.errors.NotFond", "Module has no attribute"),
    ("from dbp import Stat", "has no attribute"),
    ("from dbp.plugin import Lair", "has no attribute"),
    ("dbp.Client(adress='x')", "Unexpected keyword argument"),
    ("dbp.Client(patiense=3)", "Unexpected keyword argument"),
    ("client.submit('x', wokers=2)", "Unexpected keyword argument"),
    ("client.submit('x', workers='2')", "incompatible type|No overload variant"),
    ("job.paramters()", "has no attribute"),
    ("job.parameters(newer_then=2)", "Unexpected keyword argument"),
    ("job.parameters(wait='3')", "incompatible type"),
    ("job.download('x', lable='best')", "Unexpected keyword argument"),
    ("job.get().stat", "has no attribute"),
    ("dbp.State.RUNING", "has no attribute"),
    ("dbp.AsyncClient(patiense=3)", "Unexpected keyword argument"),
    ("dbp.ParameterMirror.waitt", "has no attribute"),
]


def test_a_wrong_name_or_option_is_a_type_error(python: Path, tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    head = "import dbp\nclient = dbp.Client()\njob = client.job('x')\n"
    program.write_text(head + "".join(f"{line}\n" for line, _ in WRONG))
    first = head.count("\n") + 1

    done = checked(python, program)

    errors = re.findall(r"^wrong\.py:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    for number, (line, expected) in enumerate(WRONG, first):
        told = [message for place, message in errors if int(place) == number]
        assert re.search(expected, "\n".join(told)), f"{line}\n{done.stdout}"
    assert {int(place) for place, _ in errors} == set(range(first, first + len(WRONG)))


def test_a_plug_in_is_checked_strictly_against_the_wheel(python: Path) -> None:
    done = checked(python, *sorted(EXAMPLE.glob("*.py")))

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_runs_from_the_wheel(python: Path, tmp_path: Path) -> None:
    done = run(python, "-m", "dbp", "components", "dense", folder=tmp_path)
    found = run(python, "-c", "import dbp; print(dbp.__file__)", folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "units" in done.stdout
    assert found.stdout.startswith(str(python.parents[1]))
