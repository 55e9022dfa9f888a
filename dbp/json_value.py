"""The type of JSON values: what specs, checkpoints, stored jobs and metadata are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

# Read-only on purpose: a dict[str, int] or a list[str] is a JsonValue, too. A str is a text,
# never a sequence of characters: ask for it before Sequence, or ask for list | tuple.
JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)
JsonObject: TypeAlias = Mapping[str, JsonValue]
