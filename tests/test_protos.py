"""The protos as users of generated code see them."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

from tests.deadline import DEADLINE
from tests.test_docstrings import BAD_WORD

ROOT = Path(__file__).parent.parent
IMAGE = ROOT / "tests" / "protos.binpb"
BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
NEEDS_BUF = pytest.mark.skipif(BUF is None, reason="buf is not installed")

pytestmark = pytest.mark.processes

FILES = sorted((ROOT / "protos").rglob("*.proto"))
NAMES = sorted(path.stem for path in (ROOT / "protos" / "dbp" / "v1").glob("*.proto"))


def descriptor(name: str) -> FileDescriptor:
    found: FileDescriptor = importlib.import_module(f"dbp.v1.{name}_pb2").DESCRIPTOR
    return found


@pytest.mark.parametrize("name", NAMES)
def test_code_in_other_languages_has_a_package_and_a_class_for_each_message(name: str) -> None:
    options = descriptor(name).GetOptions()

    assert options.go_package == "dbp/v1;dbpv1"
    assert (options.java_package, options.java_multiple_files) == ("dbp.v1", True)
    assert options.csharp_namespace == "Dbp.V1"


@pytest.mark.parametrize("name", NAMES)
def test_number_0_of_every_enum_is_unspecified(name: str) -> None:
    for enum in descriptor(name).enum_types_by_name.values():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED"), enum.full_name


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the protos, to be changed."""
    return shutil.copytree(ROOT / "protos", tmp_path / "protos")


def broken(protos: Path) -> str:
    """Return the output of `buf breaking` for the protos in a folder."""
    assert BUF is not None
    done = subprocess.run(
        [BUF, "breaking", "--against", str(IMAGE)],
        cwd=protos, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert bool(done.stdout) == (done.returncode != 0), done.stderr
    return done.stdout


@NEEDS_BUF
def test_the_protos_do_not_break_clients(copied: Path) -> None:
    assert broken(copied) == ""


@NEEDS_BUF
@pytest.mark.parametrize(
    ("file", "before", "after", "text"),
    [
        ("job.proto", "  int32 workers = 4;", "", 'field "4" with name "workers"'),
        ("job.proto", "  int32 workers = 4;", "  int64 workers = 4;", "int32"),
        ("job.proto", "JOB_STATE_QUEUED = 1", "JOB_STATE_WAITING = 1", "JOB_STATE_WAITING"),
        ("job.proto", '"dbp/v1;dbpv1"', '"other/v1;dbpv1"', "go_package"),
        (
            "job_service.proto",
            "  rpc GetJob(GetJobRequest) returns (GetJobResponse);",
            "",
            'RPC "GetJob"',
        ),
    ],
)
def test_a_change_that_breaks_clients_is_found(
    copied: Path, file: str, before: str, after: str, text: str
) -> None:
    path = copied / "dbp" / "v1" / file
    content = path.read_text()
    assert before in content
    path.write_text(content.replace(before, after))

    assert text in broken(copied)


@NEEDS_BUF
def test_an_addition_breaks_no_client(copied: Path) -> None:
    path = copied / "dbp" / "v1" / "job.proto"
    added = "  // A new field.\n  string added = 999;\n"
    path.write_text(
        path.read_text().replace("  int32 workers = 4;\n", f"  int32 workers = 4;\n{added}")
    )

    assert broken(copied) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_comments_use_plain_words(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        comment = line.partition("//")[2].replace("steps behind the run", "")
        assert BAD_WORD.search(comment) is None, f"{path.name}:{number}: {line}"
        assert len(line) <= 96, f"{path.name}:{number}: {len(line)} characters"
