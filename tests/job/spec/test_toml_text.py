"""Documents as TOML text read back as the same documents."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.job.spec.resolve import resolve
from dbp.job.spec.toml_text import toml_text


def test_a_resolved_spec_reads_back_as_itself(document: dict[str, Any]) -> None:
    resolved = resolve(document)

    again = resolve(tomllib.loads(toml_text(resolved.document)))

    assert again.digest == resolved.digest


keys = st.text(max_size=8)
values = st.recursive(
    st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(keys, values, max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_document_reads_back_as_itself(document: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(document)) == document
