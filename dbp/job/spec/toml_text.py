"""Write documents as TOML text that reads back as the same document."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dbp.json_value import JsonObject, JsonValue
from dbp.printable import json_escaped

WIDTH = 88


def toml_text(document: JsonObject) -> str:
    """Return the document, one section per table; deeper tables are inline."""
    values = {name: item for name, item in document.items() if not isinstance(item, Mapping)}
    sections = [_lines(values)] if values else []
    for name, item in document.items():
        if isinstance(item, Mapping):
            sections.append([f"[{_key(name)}]", *_lines(item)])
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _lines(table: JsonObject) -> list[str]:
    width = max((len(_key(name)) for name in table), default=0)
    lines: list[str] = []
    for name, item in table.items():
        line = f"{_key(name):<{width}} = {_inline(item)}"
        if isinstance(item, list | tuple) and (len(line) > WIDTH or name == "layers"):
            lines += [f"{_key(name):<{width}} = [", *(f"  {_inline(i)}," for i in item), "]"]
        else:
            lines.append(line)
    return lines


def _inline(value: JsonValue) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(name)} = {_inline(item)}" for name, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the control characters that JSON leaves alone.
        return json_escaped(json.dumps(value, ensure_ascii=False))
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _key(name: str) -> str:
    bare = name.replace("_", "").replace("-", "")
    return name if bare.isascii() and bare.isalnum() else _inline(name)
