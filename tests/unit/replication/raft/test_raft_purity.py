"""The core is pure: it imports nothing that has a clock, chance, input or output in it."""

import ast
from pathlib import Path

import vecdb_replication.raft

PURE = {"collections", "dataclasses", "enum", "typing"}
PACKAGE = Path(vecdb_replication.raft.__file__).parent


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports; those of its own package as a dot."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level == 1 else ".." if node.level else str(node.module).split(".")[0])
    return found


def test_the_core_imports_only_pure_parts_of_the_standard_library() -> None:
    """Every module of the package imports its own siblings and four pure modules, nothing else."""
    modules = list(PACKAGE.glob("**/*.py"))
    assert len(modules) > 15
    for path in modules:
        assert imported(path) <= PURE | {"."}, path.name


def test_the_core_calls_nothing_impure() -> None:
    """Nor does it open, print or import by name."""
    for path in PACKAGE.glob("**/*.py"):
        called = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"open", "print", "input", "exec", "eval", "__import__", "hash", "id"}, path.name
