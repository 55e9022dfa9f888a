"""Compare the columns of a table with those that a model was trained on.

The metadata of parameter files contains the names of the inputs, in the order of the model,
and the names of the targets and the weight.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dbp.data_access import hides_contents
from dbp.errors import InvalidData, InvalidFile, nearest
from dbp.quantities import count_text

INPUT_NAMES: Final = "dbp.input_names"
OTHER_COLUMNS: Final = "dbp.other_columns"

# The source of a model's columns in messages.
MODEL: Final = "the model"

_UNSEEN: Final = re.compile("[\ufeff\u200b\u2060\u00ad\u200e\u200f]+")

_SHOWN: Final = 10
_CHOSEN: Final = 50
_COMPARED: Final = 1_000  # limit of names searched for a similar one, which is slow
# Combining characters in succession that a text has at most: Unicode's stream-safe format.
_MOST_COMBINING: Final = 30


@dataclass(frozen=True)
class OtherColumns:
    """The columns of a table other than its inputs, by name; empty without names.

    ``targets_named`` means that the reader's options choose targets by name, not by position;
    ``ignored`` that they choose the inputs, so that all remaining columns are ignored.
    """

    targets: tuple[str, ...] = ()
    weight: str = ""
    targets_named: bool = False
    ignored: bool = False


NO_OTHERS: Final = OtherColumns()


@dataclass(frozen=True)
class Columns:
    """Names of the inputs in the model's order, and of the training set's other columns.

    Empty if the training set had no names: then inputs are matched by position.
    """

    inputs: tuple[str, ...] = ()
    others: OtherColumns = NO_OTHERS


POSITIONAL: Final = Columns()


def normalized_name(name: str) -> str:
    """Return a name in the form in which names are compared and stored.

    Unicode form NFC, without spaces at its ends and without characters that are never seen:
    byte order marks, soft hyphens, zero-width spaces and marks of direction. A name with more
    combining characters in succession than a text has is not brought into form NFC, which
    takes a time that grows with the square of their number.
    """
    if name.isascii():
        return name.strip()
    seen = _UNSEEN.sub("", name)
    return (unicodedata.normalize("NFC", seen) if _is_stream_safe(seen) else seen).strip()


def _is_stream_safe(text: str) -> bool:
    """Return whether a text is in the form of UAX #15, section 13, as all real ones are.

    Characters count as what form NFC sorts: what they decompose into, in form NFD. U+0F73 is
    no combining character itself, but is made of two.
    """
    run = 0
    for character in text:
        if character.isascii():
            run = 0
            continue
        for part in unicodedata.normalize("NFD", character):
            run = run + 1 if unicodedata.combining(part) else 0
            if run > _MOST_COMBINING:
                return False
    return True


def columns_of(
    metadata: Mapping[str, str], source: str, input_shape: tuple[int, ...] | None = None
) -> Columns:
    """Return the columns in the metadata of a parameter file.

    ``input_shape`` is that of the model in the file, if known. Raises InvalidFile, naming
    ``source``.
    """
    if INPUT_NAMES not in metadata:
        return POSITIONAL
    names = _read(metadata[INPUT_NAMES], list, f"{source}: {INPUT_NAMES}")
    others = _read(metadata.get(OTHER_COLUMNS, "{}"), dict, f"{source}: {OTHER_COLUMNS}")
    targets, weight = others.get("targets", []), others.get("weight", "")
    if not _are_texts(names) or len(set(names)) != len(names):
        raise InvalidFile(f"{source}: {INPUT_NAMES}: {_shown(names)}, expected distinct names")
    if input_shape is not None and len(input_shape) == 1 and input_shape != (len(names),):
        raise InvalidFile(
            f"{source}: {INPUT_NAMES}: {count_text(len(names), 'name')}; the model takes "
            f"{count_text(input_shape[0], 'input')}"
        )
    if not isinstance(targets, list) or not _are_texts([*targets, weight]):
        raise InvalidFile(f"{source}: {OTHER_COLUMNS}: {_shown(others)}, expected names")
    return Columns(
        _normalized(names),
        OtherColumns(
            _normalized(targets), normalized_name(weight), ignored=others.get("ignored") is True
        ),
    )


def _normalized(names: Sequence[str]) -> tuple[str, ...]:
    """Return stored names normalized for comparison, or unchanged if two would be equal."""
    found = tuple(map(normalized_name, names))
    return found if len(set(found)) == len(found) else tuple(names)


def check_inputs(
    found: Sequence[str],
    names: tuple[str, ...],
    others: OtherColumns,
    source: str,
    *,
    remedy: str,
) -> None:
    """Raise InvalidData unless the columns ``found`` are ``names``, in any order.

    ``remedy`` is the advice for additional columns.
    """
    have, wanted = set(found), set(names)
    missing = [name for name in names if name not in have]
    extra = [name for name in found if name not in wanted]
    if len(have) < len(found):
        twice = [name for name, count in Counter(found).items() if count > 1]
        raise InvalidData(f"{listed(twice[:1])} names several columns of inputs, expected one")
    if not missing and not extra:
        return
    problems = []
    if missing:
        problems.append(f"no input {listed(missing)}{_similar(missing[0], extra)}")
    if extra:
        kind = "is no input" if len(extra) == 1 else "are no inputs"
        problems.append(f"{listed(extra)} {kind} of {source}{_role(extra, others)}")
    problems.append(remedy if not missing else f"the inputs of {source} are {listed(names)}")
    raise InvalidData("; ".join(problems))


def _similar(name: str, found: Sequence[str]) -> str:
    """Suggest a name: one that differs in case or spaces only, or the nearest one."""
    if hides_contents():
        return ""
    for other in found:
        if other.strip().casefold() == name.strip().casefold():
            return f", did you mean {other!r}?"
    for other in found[:_COMPARED]:
        if strange := _look_alike(name, other):
            return f"; {other!r} is spelled with {strange}"
    return nearest(name, found[:_COMPARED])


def _look_alike(name: str, other: str) -> str:
    """Return the first letter of another alphabet if names differ only in such letters."""
    if len(name) != len(other):
        return ""
    pairs = [(a, b) for a, b in zip(name, other, strict=True) if a != b]
    if not pairs or any(a.isascii() == b.isascii() for a, b in pairs):
        return ""
    wanted, found = pairs[0]
    return f"{_code(found)} instead of {_code(wanted)}"


def _code(letter: str) -> str:
    return f"U+{ord(letter):04X} ({unicodedata.name(letter, 'without a name')})"


def check_table(found: Sequence[str], columns: Columns) -> None:
    """Raise InvalidData unless the model can predict from a table with these columns.

    The table must have all inputs. It may have targets and weight of the training set, and
    other columns if the training spec chose its inputs.
    """
    others, wanted = columns.others, set(columns.inputs)
    known = {*others.targets, others.weight} - wanted
    rest = [name for name in found if name in wanted or not (others.ignored or name in known)]
    check_inputs(
        rest, columns.inputs, NO_OTHERS, MODEL, remedy="remove columns that are no inputs"
    )


def choice_of(names: Sequence[str]) -> str:
    """Return the reader option that chooses these columns, as TOML; a long list is cut."""
    if hides_contents():
        return "inputs = [...]"
    quoted = [json.dumps(name, ensure_ascii=False) for name in names[:_CHOSEN]]
    return f"inputs = [{', '.join(quoted)}{', ...' if len(names) > _CHOSEN else ''}]"


def _role(extra: Sequence[str], others: OtherColumns) -> str:
    """Return the role of an extra column in the other table, and the option for it."""
    if hides_contents():
        return ""
    for name in extra:
        quoted = json.dumps(name, ensure_ascii=False)
        if name in others.targets and len(others.targets) == 1:
            return f" ({name!r} is its target: target = {quoted})"
        if name in others.targets:
            return f" ({name!r} is one of its targets)"
        if name == others.weight:
            return f" ({name!r} is its weight: weight = {quoted})"
    return ""


def listed(names: Sequence[str]) -> str:
    """Return names for a message; a long list is cut, names in a job's data only counted."""
    if hides_contents():
        return count_text(len(names), "name")
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _read(text: str, kind: type[Any], place: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{place}: {error}") from error
    if not isinstance(value, kind):
        raise InvalidFile(f"{place}: {_shown(value)}, expected a JSON {kind.__name__}")
    return value


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _shown(value: object) -> str:
    return "another value" if hides_contents() else f"{value!r:.60}"
