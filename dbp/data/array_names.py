"""Names of the arrays that readers take from files of several arrays."""

from __future__ import annotations

from typing import Final

INPUTS: Final = "x"
TARGETS: Final = "y"


def name_hint(name: str, names: list[str]) -> str:
    """Return the option that names an array, after "; ", where a default name is missing."""
    option = {INPUTS: "inputs", TARGETS: "targets"}.get(name)
    others = [other for other in names if other not in (INPUTS, TARGETS)]
    if option is None or not others:
        return ""
    other = others[0] if option == "inputs" else others[-1]
    return f'; name it in the spec, as in {option} = "{other}"'
