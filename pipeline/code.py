"""The digest of a step's code, from syntax trees: comments and docstrings do not count.

It is the same in every version of Python. It reads the files of modules without importing them, so
it needs no TensorFlow. A process runs the code that it has imported, so a module has one digest in
a process: it refuses one that has changed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tlkeras.frameworks import uncollected

ROOTS = ("tlkeras", "pipeline")
"""The packages of the project; a digest follows only imports from these."""

SHOWING = ("tlkeras.terminal",)
"""Terminal output is in no product, so this code is in no digest."""

# The name of a file among the texts of a module, in the text of its syntax tree.
_NAME = re.compile(r"value='([\w-]+\.\w+)'")

# What is no part of a formatted text.
_EMPTY = "Constant(value='')"

# The digest of each file when this process first looked at it.
_seen: dict[Path, str] = {}


def digest(modules: Iterable[str], roots: Sequence[str] = ROOTS) -> str:
    """Returns the digest of these modules and of all their imports from `roots`, transitively.

    Raises:
        ValueError: A module has no source file.
    """
    digests = reached(modules, roots)
    lines = (f"{module} {digests[module]}" for module in sorted(digests))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def reached(modules: Iterable[str], roots: Sequence[str] = ROOTS) -> dict[str, str]:
    """Returns the digest of each of these modules and of their imports from `roots`.

    Imports inside functions count, those under ``if TYPE_CHECKING:`` do not. Modules behind a name
    in a text, such as the members of a family, do not count: pass those of the configuration. A
    file that is no code, beside a module that has its name as a text, counts:
    ``tlkeras/report/page.css``.

    Raises:
        ValueError: A module has no source file, or a file has changed since this process first
            looked at it.
    """
    digests: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in digests or module in SHOWING:
            continue
        file = _file(module, roots)
        if file is None:
            raise ValueError(f"The code of {module!r} is in no file; put it into a module.")
        own, imported, named = _parsed(file.read_bytes(), str(file))
        digests[module] = _unchanged(file, own)
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        for beside in filter(Path.is_file, map(file.with_name, named)):
            own = hashlib.sha256(beside.read_bytes()).hexdigest()
            digests["/".join([*package.split("."), beside.name])] = _unchanged(beside, own)
        for level, base, name in imported:
            waiting += _project_modules(_absolute(level, base, package), name, roots)
    return digests


def _unchanged(file: Path, digest: str) -> str:
    """Returns the digest of a file; raises ValueError if it was another one in this process."""
    if _seen.setdefault(file, digest) != digest:
        raise ValueError(
            f"{file} has changed since this run began, and what runs is the code of before; start "
            "again. Products that are done are found again."
        )
    return digest


def _bare(tree: ast.AST) -> Iterator[ast.stmt]:
    """Drops statements without effect: bare texts, docstrings and type-checking imports.

    Yields the others; it looks into statements alone, because no expression holds one.
    """
    for field in ("body", "orelse", "finalbody"):
        statements: list[ast.stmt] | ast.expr = getattr(tree, field, [])
        if isinstance(statements, list):
            statements[:] = [kept for each in statements for kept in _with_effect(each)]
            for each in statements:
                yield each
                yield from _bare(each)
    for part in (*getattr(tree, "handlers", ()), *getattr(tree, "cases", ())):
        yield from _bare(part)


def _with_effect(statement: ast.stmt) -> list[ast.stmt]:
    """Returns nothing of a bare text, and of ``if TYPE_CHECKING:`` what is done otherwise."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return []
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return [kept for each in statement.orelse for kept in _with_effect(each)]
        case _:
            return [statement]


@functools.cache
def _parsed(source: bytes, file: str) -> tuple[str, list[tuple[int, str, str | None]], list[str]]:
    """Returns a source's digest, its imports as (level, module, name), and texts like file names.

    Those of code are not among the texts.
    """
    with uncollected():
        tree = ast.parse(source, file)
        imports = [*_imports(_bare(tree))]
        text = _text(tree)
    named = [name for name in _NAME.findall(text) if not name.endswith(".py")]
    return hashlib.sha256(text.encode()).hexdigest(), imports, named


def _text(node: Any) -> str:
    """Returns the text of a syntax tree, or of a field of it, the same in every version of Python.

    `ast.dump` writes empty fields, also those that are new, in some versions alone.
    """
    match node:
        case ast.JoinedStr(values=parts):  # Python 3.12.1 adds empty ones.
            return f"JoinedStr({', '.join(text for text in map(_text, parts) if text != _EMPTY)})"
        case ast.AST():
            held = {name: each for name, each in ast.iter_fields(node) if each not in (None, [])}
            fields = (f"{name}={_text(each)}" for name, each in held.items())
            return f"{type(node).__name__}({', '.join(fields)})"
        case [*nodes]:
            return f"[{', '.join(map(_text, nodes))}]"
        case _:
            return ascii(node)


def _imports(statements: Iterable[ast.stmt]) -> Iterator[tuple[int, str, str | None]]:
    for node in statements:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or "", alias.name) for alias in node.names)


def _absolute(level: int, base: str, package: str) -> str:
    if not level:
        return base
    parts = package.split(".")[: len(package.split(".")) - (level - 1)]
    return ".".join([*parts, base] if base else parts)


def _project_modules(base: str, name: str | None, roots: Sequence[str]) -> list[str]:
    """Returns the module behind ``from base import name`` if it is one of the project."""
    if base.partition(".")[0] not in roots:
        return []
    if name and _file(f"{base}.{name}", roots):
        return [f"{base}.{name}"]
    return [base] if _file(base, roots) else []


def _file(module: str, roots: Sequence[str]) -> Path | None:
    """Returns the source file of a module without an import of the project's packages."""
    root, *parts = module.split(".")
    if root in roots:
        spec = importlib.util.find_spec(root)
        for folder in (spec and spec.submodule_search_locations) or ():
            path = Path(folder, *parts)
            for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py")):
                if candidate.is_file():
                    return candidate
        return None
    origin = getattr(sys.modules.get(module), "__file__", None)
    return Path(origin) if origin else None
