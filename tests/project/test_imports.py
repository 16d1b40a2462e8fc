"""Imports point downwards in the architecture's picture, never up, wherever in a file they stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

# The layers, from the bottom, and the first part of the module names (after `bateau.`) that belong to each.
# A new top-level module has to be put here: where it stands is a decision, not an accident.
LAYERS: dict[str, set[str]] = {
    "kernel": {"kernel", "_native"},
    "runtimes": {"runtimes"},
    "portable": {
        "time", "sync", "channel", "io", "net", "ssl", "fs", "subprocess", "signal", "thread", "iter",
        "scopes", "combine", "selecting", "scheduling", "counterparts", "interface",
    },
    "programs": {"running", "blocking", "serving"},  # starting programs: `run`, `main`, `block_on`, `serve`
    "tools": {"insight", "sim", "lint", "testing", "interop", "cli", "__main__"},
    "facade": {""},  # bateau/__init__.py: the public names
}  # fmt: skip

# Who may import whom when the module is loaded, and who only later (inside a function, or for types alone).
AT_LOAD: dict[str, set[str]] = {
    "kernel": {"kernel"},
    "runtimes": {"kernel", "runtimes"},
    "portable": {"kernel", "portable"},
    "programs": {"kernel", "runtimes", "portable", "programs"},
    "tools": {"kernel", "runtimes", "portable", "programs", "tools", "facade"},
    # How much of it may be loaded at once is test_startup's business.
    "facade": {"kernel", "runtimes", "portable", "programs"},
}
LATER: dict[str, set[str]] = {
    "kernel": set(),
    "runtimes": set(),
    "portable": {"runtimes"},
    "programs": set(),
    "tools": set(),
    "facade": {"tools"},  # by name, on first use: no tool is loaded by `import bateau`
}


@dataclass(frozen=True)
class Import:
    line: int
    target: str  # a full module name, `bateau` or below it
    later: bool  # not executed when the importing module is loaded


def modules(root: Path = SOURCE) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.glob("bateau/**/*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def layer_of(module: str) -> str | None:
    top = module.split(".")[1] if "." in module else ""
    return next((layer for layer, names in LAYERS.items() if top in names), None)


class Collector(ast.NodeVisitor):
    """Every import of bateau's own modules in a file, literal `import_module("bateau...")` calls included."""

    def __init__(self, module: str, *, is_package: bool, known: set[str]) -> None:
        self.package = module if is_package else module.rpartition(".")[0]
        self.known = known
        self.later = False
        self.found: list[Import] = []

    def add(self, node: ast.AST, target: str) -> None:
        if target == "bateau" or target.startswith("bateau."):
            self.found.append(Import(getattr(node, "lineno", 0), target, self.later))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
        for alias in node.names:
            # `from bateau import net` names a module, `from bateau.kernel import Scope` a thing inside one.
            inner = f"{base}.{alias.name}"
            self.add(node, inner if inner in self.known else base)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        if name in {"import_module", "__import__"} and isinstance(first, ast.Constant) and isinstance(first.value, str):
            self.add(node, first.value)
        self.generic_visit(node)

    def postponed(self, nodes: list[ast.stmt]) -> None:
        before, self.later = self.later, True
        for node in nodes:
            self.visit(node)
        self.later = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.postponed(node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.postponed(node.body)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)
            return
        self.postponed(node.body)
        for other in node.orelse:
            self.visit(other)


def imports_of(module: str, path: Path, known: set[str]) -> list[Import]:
    collector = Collector(module, is_package=path.name == "__init__.py", known=known)
    collector.visit(ast.parse(path.read_text(), str(path)))
    return collector.found


def faults(root: Path = SOURCE) -> list[str]:
    found: list[str] = []
    everything = dict(modules(root))
    for module, path in everything.items():
        layer = layer_of(module)
        where = path.relative_to(root.parent)
        if layer is None:
            found.append(f"{where}: {module} stands in no layer: give it one in LAYERS of {Path(__file__).name}")
            continue
        for item in imports_of(module, path, set(everything)):
            target = layer_of(item.target)
            if target is None:
                found.append(f"{where}:{item.line}: imports {item.target}, which stands in no layer")
            elif target in AT_LOAD[layer] or (item.later and target in LATER[layer]):
                continue
            elif target in LATER[layer]:
                found.append(f"{where}:{item.line}: {layer} may import {target} only inside a function: {item.target}")
            else:
                found.append(f"{where}:{item.line}: {layer} may not import {target}: {item.target}")
    return found


def test_imports_point_downwards() -> None:
    assert dict(modules()), f"no modules under {SOURCE}"
    problems = faults()
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("kernel/a.py", "import bateau.net", "kernel may not import portable"),
        ("kernel/a.py", "def f():\n    from ..runtimes import b", "kernel may not import runtimes"),
        ("kernel/a.py", "from bateau import run", "kernel may not import facade"),
        ("kernel/a.py", "import importlib\nimportlib.import_module('bateau.cli')", "kernel may not import tools"),
        ("runtimes/b.py", "if TYPE_CHECKING:\n    from bateau.sync import Lock", "runtimes may not import portable"),
        ("net.py", "from .runtimes import b", "only inside a function"),
        ("net.py", "def f():\n    from .runtimes import b", None),
        ("net.py", "from .kernel import a\nfrom . import kernel\nimport socket", None),
        ("cli.py", "import bateau\nfrom bateau import net", None),
        ("strange.py", "", "stands in no layer"),
    ],
)
def test_the_check_itself(tmp_path: Path, file: str, text: str, fault: str | None) -> None:
    tree = "__init__.py kernel/__init__.py kernel/a.py runtimes/__init__.py runtimes/b.py net.py cli.py"
    for name in tree.split():
        path = tmp_path / "src/bateau" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "src/bateau" / file).write_text(text)
    found = faults(tmp_path / "src")
    if fault is None:
        assert found == []
    else:
        assert len(found) == 1
        assert fault in found[0]
