"""What is looked for, and where: ``[tool.bateau.lint]`` of pyproject.toml, and the command line before it."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .diagnostic import OWN_NAMES
from .rules import RULES

# Folders that hold no source of the project.
_NEVER = (
    ".git", ".hg", ".svn", ".tox", ".nox", ".venv", ".venv-*", "venv", "__pycache__", "node_modules", "site-packages", "build", "dist",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".eggs",
)  # fmt: skip


class BadSettings(ValueError):
    """A setting or an argument that means nothing; its text says which and what is known."""


@dataclass(frozen=True)
class Settings:
    """``select``: rules that run (``all`` is every one, ``default`` those of ``Rule.default``); ``ignore``: rules that do not.

    ``per_file_ignores``: rules that do not count in files whose path matches a pattern. ``exclude``: patterns of files and folders that
    are not looked for in folders (files that are named themselves are looked at). Patterns are ``fnmatch``'s, of the path relative to ``root`` or of
    its last part; one that names a folder means all in it.
    """

    select: tuple[str, ...] = ("default",)
    ignore: tuple[str, ...] = ()
    per_file_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    exclude: tuple[str, ...] = ()
    root: Path = field(default_factory=Path.cwd)

    def rules(self) -> list[str]:
        """The names of the rules that run. Raises ``BadSettings`` for a name that is none."""
        found: set[str] = set()
        for name in self.select:
            if name == "all":
                found.update(RULES)
            elif name == "default":
                found.update(each for each, rule in RULES.items() if rule.default)
            else:
                found.add(_known(name))
        return sorted(found - {_known(name) for name in self.ignore})

    def tells(self, name: str) -> bool:
        """Whether a name of lint's own (``unused_ignore``) is told."""
        return name not in self.ignore

    def ignored_in(self, path: Path) -> set[str]:
        """The names that do not count in a file."""
        found: set[str] = set()
        for pattern, names in self.per_file_ignores.items():
            if self._matches(path, pattern):
                found.update(RULES if "all" in names else names)
        return found

    def excludes(self, path: Path) -> bool:
        """Whether a file or folder is left out when its folder is gone through."""
        return any(fnmatch.fnmatch(path.name, each) for each in _NEVER) or any(
            self._matches(path, each) for each in self.exclude
        )

    def _matches(self, path: Path, pattern: str) -> bool:
        try:
            shown = path.absolute().relative_to(self.root.absolute()).as_posix()
        except ValueError:
            shown = path.as_posix()
        pattern = pattern.rstrip("/")
        return (
            fnmatch.fnmatch(shown, pattern)
            or fnmatch.fnmatch(shown, f"{pattern}/*")
            or fnmatch.fnmatch(path.name, pattern)
        )


def _known(name: str) -> str:
    if name not in RULES and name not in OWN_NAMES:
        raise BadSettings(f"no rule is called {name!r}; there are: {', '.join([*sorted(RULES), 'all', 'default'])}")
    return name


def find(start: Path) -> Settings:
    """The settings of the nearest pyproject.toml at or above ``start`` that has some. Raises ``BadSettings``."""
    start = start.absolute()
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            found = load(path)
            if found is not None:
                return found
    return Settings(root=start if start.is_dir() else start.parent)


def load(path: Path) -> Settings | None:
    """The settings in one pyproject.toml, or None where it has none. Raises ``BadSettings``."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"{path}: {error}") from error
    table: Any = document.get("tool", {}).get("bateau", {}).get("lint")
    if table is None:
        return None
    if not isinstance(table, dict):
        raise BadSettings(f"{path}: tool.bateau.lint is a table")
    return _from_table(table, path)  # pyright: ignore[reportUnknownArgumentType]  # TOML's are of anything


def _from_table(table: dict[str, Any], path: Path) -> Settings:
    known = {"select", "extend-select", "ignore", "per-file-ignores", "exclude"}
    strange = sorted(set(table) - known)
    if strange:
        raise BadSettings(f"{path}: tool.bateau.lint has no {strange[0]!r}; there are: {', '.join(sorted(known))}")
    found = Settings(root=path.parent)
    if "select" in table:
        found = replace(found, select=_names(table["select"], "select", path))
    if "ignore" in table:
        found = replace(found, ignore=_names(table["ignore"], "ignore", path))
    if "exclude" in table:
        found = replace(found, exclude=_names(table["exclude"], "exclude", path))
    if "extend-select" in table:
        found = replace(found, select=(*found.select, *_names(table["extend-select"], "extend-select", path)))
    per_file: Any = table.get("per-file-ignores", {})
    if not isinstance(per_file, dict):
        raise BadSettings(f"{path}: tool.bateau.lint.per-file-ignores is a table of patterns and lists of names")
    every: dict[str, Any] = per_file  # pyright: ignore[reportUnknownVariableType]  # TOML's are of anything
    pairs = {pattern: _names(names, "per-file-ignores", path) for pattern, names in every.items()}
    found = replace(found, per_file_ignores=pairs)
    try:
        found.rules()
        for names in pairs.values():
            for name in names:
                if name != "all":
                    _known(name)
    except BadSettings as error:
        raise BadSettings(f"{path}: {error}") from None
    return found


def _names(value: object, key: str, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):  # pyright: ignore[reportUnknownVariableType]  # TOML's are of anything
        raise BadSettings(f"{path}: tool.bateau.lint.{key} is a list of strings")
    return tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # TOML's are of anything


def names_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Names as they are written on a command line: several with commas between."""
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
