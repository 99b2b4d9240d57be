"""Reads the packages' source: which modules there are, and what each imports."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "agentwrap": ROOT / "agentwrap",
    "agentwrap_export": ROOT / "protocol/agentwrap_export",
    "agentwrap_protocol": ROOT / "protocol/agentwrap_protocol",
    "agentwrap_viewer": ROOT / "viewer/agentwrap_viewer",
}


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the four packages: its dotted name and its file."""
    return {
        ".".join((package, *path.relative_to(directory).with_suffix("").parts)).removesuffix(".__init__"): path
        for package, directory in PACKAGES.items()
        for path in sorted(directory.rglob("*.py"))
    }


def imports(name: str, path: Path) -> set[str]:
    """The dotted names of all that a module imports, relative imports resolved, wherever in it they stand."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join(filter(None, [*base, node.module]))
            found.update(f"{stem}.{alias.name}" for alias in node.names)
    return found


def below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")
