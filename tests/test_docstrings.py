"""Check docstrings, comments and messages against the rules of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import doctest
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dbp"
GENERATED = ("inference", "v1")
MODULES = sorted(
    p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] not in GENERATED
)
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]

MIN_WORDS = 4
BAD_START = re.compile(r"(What|Whoever|Whatever|Who|That which|How|Whose)\b")

# Expression -> what to write instead.
BAD_WORDS = {
    r"told|tells?|telling": "programs log, return, raise, report, send",
    r"wish(es|ed)?": "request, option, setting",
    r"anew": "again, from the start",
    r"go(es)? on|going on|went on": "continue",
    r"nobody": "no + the noun that is meant",
    r"held at": "fixed to, stopped at",
    r"behind": "after, following",
    r"whoever": "the noun that is meant",
    r"rooms?": "space; module",
    r"summits?": "subtree sum",
    r"meetings?": "sync point",
    r"as ever": "leave it out",
}
BAD_WORD = re.compile(rf"\b({'|'.join(BAD_WORDS)})\b", re.IGNORECASE)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


Method = ast.FunctionDef | ast.AsyncFunctionDef


# --- methods and the classes that they override ---------------------------------------------


@cache
def imported_names(path: Path) -> dict[str, str]:
    """Full name of everything that a module imports, by the name it has there."""
    names = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                names[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


@cache
def classes(path: Path) -> dict[str, ast.ClassDef]:
    return {n.name: n for n in ast.walk(tree_of(path)) if isinstance(n, ast.ClassDef)}


def file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def members(path: Path, name: str) -> set[str]:
    """Names that a class of a module of dbp defines or inherits."""
    if name not in classes(path):
        module, _, name = imported_names(path)[name].rpartition(".")  # a re-export
        return named_members(module, name)
    node = classes(path)[name]
    own = {n.name for n in node.body if isinstance(n, Method)}
    own |= {
        n.target.id
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    return own | inherited(path, node)


def named_members(module: str, name: str) -> set[str]:
    path = file_of(module) if module.startswith("dbp") else None
    if path is not None:
        return members(path, name)
    return set(dir(getattr(importlib.import_module(module), name)))


def inherited(path: Path, node: ast.ClassDef) -> set[str]:
    """Names that a class inherits from its bases, but for those of ``object``."""
    found: set[str] = set()
    for base in node.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        name = ast.unparse(expression)
        if name in classes(path):
            found |= members(path, name)
            continue
        first, _, rest = name.partition(".")
        full = imported_names(path).get(first, f"builtins.{first}")
        full = f"{full}.{rest}" if rest else full
        module, _, last = full.rpartition(".")
        found |= named_members(module, last)
    return found - set(dir(object))


def public_methods(path: Path) -> Iterator[tuple[ast.ClassDef, Method, bool]]:
    """Every public method of a public class, and whether it overrides another."""
    for name, node in classes(path).items():
        overridden = inherited(path, node)
        for method in node.body:
            if isinstance(method, Method):
                decorators = [ast.unparse(decorator) for decorator in method.decorator_list]
                accessory = any(d.endswith((".setter", "overload")) for d in decorators)
                private = name.startswith("_") or method.name.startswith("_")
                if not accessory and not private:
                    yield node, method, method.name in overridden


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_public_methods_have_docstrings_unless_they_override(path: Path) -> None:
    for owner, method, overrides in public_methods(path):
        where = f"{path.relative_to(ROOT)}:{method.lineno}: {owner.name}.{method.name}"
        text = ast.get_docstring(method)
        if overrides:
            repeats = text is not None and text.startswith("See ")
            assert not repeats, f"{where} overrides a method: it needs no docstring"
        else:
            assert text, f"{where} needs a docstring"


def test_an_override_is_found_through_a_generic_base_in_another_module(tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text(
        "from collections.abc import Mapping\n"
        "from dbp.optim.optimizer import Optimizer\n"
        "class A(Optimizer, Mapping[str, int]):\n"
        "    def update(self): ...\n"
        "    def values(self): ...\n"
        "    def other(self): ...\n"
        "class B(A):\n"
        "    def other(self): ...\n"
    )

    found = [(c.name, m.name, overrides) for c, m, overrides in public_methods(module)]

    assert found == [
        ("A", "update", True),
        ("A", "values", True),
        ("A", "other", False),
        ("B", "other", True),
    ]


# --- words ----------------------------------------------------------------------------------


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, documented):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Strings (docstrings, messages, help texts) and comments of a module, with their lines."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_docstrings_say_something_and_name_their_subject(path: Path) -> None:
    for line, text in docstrings(path):
        where = f"{path.relative_to(ROOT)}:{line}"
        assert len(text.split()) >= MIN_WORDS, f"{where}: {text!r} says nothing: write or omit"
        assert not BAD_START.match(text), f"{where}: begin with a verb or a noun: {text[:60]!r}"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_prose_uses_plain_words(path: Path) -> None:
    for line, text in prose(path):
        flat = " ".join(text.split())
        found = BAD_WORD.search(flat)
        if found:
            instead = next(v for k, v in BAD_WORDS.items() if re.fullmatch(k, found[0], re.I))
            where = f"{path.relative_to(ROOT)}:{line}"
            raise AssertionError(f"{where}: {found[0]!r} ({instead}) in {flat!r}")


WITH_EXAMPLES = [path for path in MODULES if ">>> " in path.read_text()]


@pytest.mark.parametrize(
    "path", WITH_EXAMPLES, ids=[str(path.relative_to(PACKAGE)) for path in WITH_EXAMPLES]
)
def test_examples_in_docstrings_work(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)

    results = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))

    assert results.attempted > 0
    assert results.failed == 0
