# ruff: noqa: E501 - a table of cases reads best in lines
"""Bad paths, malformed files and long texts, each submitted to a service's check in this process.

``python -m tests.service.file_corpus FOLDER`` prints, as JSON, how each was refused: the field that
the message must name, the code, the message, that of the answer, the CPU seconds, and by how much
the memory of the process grew.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbp.data_roots import DataRoots
from dbp.errors import DbpError
from dbp.job.spec.resolve import resolve
from dbp.jobs.checks import NotCheapError
from dbp.registry import describe
from dbp.rpc.status import code_of, details_of, text_of
from dbp.service.job_check import check_whole, job_check
from tests.cost import peak, reset_peak
from tests.data.bad_file_cases import CASES
from tests.jobs.fakes import FakeLauncher
from tests.service import long_text_cases
from tests.service.setups import document

# Below the data root, outside of it, and no paths at all.
PATHS = (
    "", ".", "..", "x", "./x.csv", "../secret.csv", "~", "~/x.csv", "~root/x.csv", "$HOME/x.csv",
    "${HOME}/x.csv", "$(id)", "-o", "--", "a\0b", "/a\0b", "/a\nb", "/a\x1b[0m", "/a\x7f",
    "/" + "a" * 5000, "file:///etc/passwd", "FILE:/etc/passwd", "http://h/x", "https:x",
    "s3://b/k", "gs://b/k", "data:text/plain,x", "C:\\x", "c:/x", "\\\\host\\share",
    "/a\\..\\b", "/%2e%2e/etc/passwd", "/..%2fetc/passwd", "/%252e%252e/x", "//etc/passwd",
    "/./etc/passwd", "/../etc/passwd", "/etc/passwd", "/etc/shadow", "/etc/*", "/proc/self/mem",
    "/proc/self/environ", "/proc/self/fd/0", "/proc/1/root/etc/passwd", "/proc/self/root/etc/passwd",
    "/proc/self/cwd/x", "/dev/zero", "/dev/stdin", "/dev/tty", "/dev/fd/0",
    "{root}", "{root}/", "{root}/.", "{root}/..", "{root}/../secret.csv", "{root}/none.csv",
    "{root}/x.csv/y", "{root}/out", "{root}/absolute", "{root}/way/secret.csv", "{root}/loop",
    "{root}/pipe", "{root}/.hidden", "{root}/.ssh/id", "{root}/hidden", "{root}/.*",
    "{root}/way/*.csv", "{root}/*/secret.csv", "{root}/../*.csv", "{root}/**/x.csv",
    "{root}/none-*", "{root}/none/*.csv", "{root}/pip?", "{root}/[", "{root}/x.csv\n",
)  # fmt: skip


def prepare(folder: Path) -> Path:
    """Return the data root, with links that lead out of it."""
    root = folder / "root"
    (root / ".ssh").mkdir(parents=True)
    (folder / "secret.csv").write_text("1,2,0\n")
    for name in ("x.csv", ".hidden", ".ssh/id"):
        (root / name).write_text("1,2,0\n")
    for name, target in (
        ("out", "../secret.csv"), ("absolute", str(folder / "secret.csv")), ("way", ".."),
        ("loop", "loop"), ("hidden", ".hidden"),
    ):  # fmt: skip
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    return root


def readers(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each case with its reader's table."""
    for path in PATHS:
        yield f"path {path[:40]!a}", {"kind": "csv", "path": path.replace("{root}", str(root))}
    for number, (name, make) in enumerate((n, m) for n, (m, _) in CASES.items()):
        folder = root / f"case-{number}"
        folder.mkdir()
        yield f"file {name}", dict(describe("readers", make(folder)))


def cases(spec: dict[str, Any], root: Path) -> Iterator[long_text_cases.Case]:
    """Yield each case with its spec and the field that is wrong."""
    for name, reader in readers(root):
        yield name, {**spec, "data": {"train": reader}}, "data.train"
    yield from long_text_cases.specs(spec, root)
    yield from long_text_cases.files(spec, root / "long")


def main(folder: Path) -> None:
    root = prepare(folder)
    check = job_check((root,), FakeLauncher())
    good = root / "good.csv"
    good.write_text("a,b,y\n" + "1,2,0\n3,4,1\n" * 50)
    spec = document(
        data={"train": {"kind": "csv", "path": str(good), "target": "y"}},
        model={"layers": [{"kind": "dense", "units": 2}], "loss": "softmax_cross_entropy"},
    )
    check(spec, 1)
    found = []
    for name, bad, field in cases(spec, root):
        before = reset_peak()
        start, code, message, answer, size = time.process_time(), "", "", "", 0
        try:
            try:
                check(bad, 1)
            except NotCheapError:  # the service checks it in a process, by this function
                roots = DataRoots.of([root])
                check_whole(resolve(bad, data_roots=roots), 1, roots)
        except DbpError as error:
            code, message = code_of(error).name, str(error)
            answer, size = text_of(error), sum(len(value) for _, value in details_of(error))
        seconds = time.process_time() - start
        after = peak()
        grown = 0 if before is None or after is None else after - before
        found.append([name, field, code, message, answer, size, seconds, grown])
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
