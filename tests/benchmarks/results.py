"""Put generated tables between their markers in RESULTS.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).with_name("RESULTS.md")


def markers(command: str) -> tuple[str, str]:
    """Return the lines before and after the tables that a command generates."""
    return f"<!-- begin: {command} -->\n", f"<!-- end: {command} -->\n"


def replace_section(command: str, section: str, results: Path = RESULTS) -> None:
    """Replace the text between the markers of a command. Raises SystemExit without them."""
    begin, end = markers(command)
    before = results.read_text()
    pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
    if not pattern.search(before):
        raise SystemExit(f"{results}: needs the lines {begin.strip()} and {end.strip()}")
    results.write_text(pattern.sub(lambda _: f"\n{section.strip()}\n\n", before, count=1))
