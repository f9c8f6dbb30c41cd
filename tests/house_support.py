"""What test_house reads: the tree as files, each Python file parsed once, and how a violation is written down."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = frozenset({
    ".git", ".venv", "var", "backups", "node_modules", "dist", "build", "__pycache__", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".hypothesis", ".import_linter_cache",
})  # fmt: skip
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
BINARY_SUFFIXES = frozenset({".npz", ".png", ".ico", ".gz", ".zip", ".db", ".nbi", ".nbc", ".pyc"})


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file of the tree: its path from the root, its text, its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Lines of the file."""
        return len(self.text.splitlines())


@lru_cache(maxsize=1)
def files() -> tuple[str, ...]:
    """Every file that belongs to the project, from the root, sorted: what git would commit, or without git a walk."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or somebody else's checkout
        names = [str(path.relative_to(ROOT)) for path in _walk()]
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


def _walk() -> Iterator[Path]:
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in NOT_OURS and not name.endswith(".egg-info")]
        yield from (Path(folder) / name for name in names)


def texts(*suffixes: str) -> Iterator[tuple[str, str]]:
    """(path, text) of every text file, or of those with one of `suffixes`."""
    for name in files():
        if Path(name).suffix in BINARY_SUFFIXES or (suffixes and not name.endswith(suffixes)):
            continue
        yield name, (ROOT / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def all_modules() -> tuple[Module, ...]:
    """Every Python file, parsed."""
    return tuple(Module(name, text, ast.parse(text, name)) for name, text in texts(".py"))


def modules(*under: str) -> tuple[Module, ...]:
    """The Python files below the folders `under`."""
    return tuple(module for module in all_modules() if module.path.startswith(tuple(f"{folder}/" for folder in under)))


def functions(tree: ast.AST) -> Iterator[FUNCTION]:
    """Every function and method, also those inside others."""
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTION))


def at(module: Module, node: ast.AST, what: str) -> str:
    """A violation as `path:line: what`."""
    return f"{module.path}:{getattr(node, 'lineno', 1)}: {what}"


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute; '' for anything else in front."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = dotted(node.value)
        return f"{front}.{node.attr}" if front else f".{node.attr}"
    return ""


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, FUNCTION | ast.ClassDef]]:
    """(qualified name, node) of public functions and classes of a module, and of the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, FUNCTION | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, FUNCTION) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


def hold(found: Iterable[str], exempt: Mapping[str, str] | None = None) -> None:
    """Fail with every violation that `exempt` ('path' or 'path::what' → reason) does not name.

    An exemption that nothing needs any more is a violation too.
    """
    lines, exempt = sorted(set(found)), exempt or {}
    left = [line for line in lines if not any(_names(key, line) for key in exempt)]
    left += [f"{key}: exempt without need" for key in exempt if not any(_names(key, line) for line in lines)]
    if left:
        pytest.fail("\n".join([f"{len(left)} violations", *left]), pytrace=False)


def _names(key: str, line: str) -> bool:
    path, _, what = key.partition("::")
    return line.startswith(f"{path}:") and what in line
