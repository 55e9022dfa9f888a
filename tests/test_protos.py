"""The protos as users of generated code see them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

ROOT = Path(__file__).parent.parent
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
