"""Reading the files and asking the rules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .diagnostic import Diagnostic
from .ignoring import applied, ignores, useless
from .module import Module
from .reading import decode
from .resolving import Project
from .rules import RULES, Rule
from .settings import Settings

# A file without any of these has nothing that a rule could find, and need not be parsed: `async` stands for asyncio's name as well.
_TELLING = re.compile(rb"async|await|trio|bateau|anyio|# *bateau:")


class NoSuchPath(ValueError):
    """A path that was given is not there, or can't be read."""


@dataclass
class Report:
    """What came of it. ``files``: how many were looked at."""

    findings: list[Diagnostic] = field(default_factory=list[Diagnostic])
    files: int = 0


def check_paths(paths: Iterable[str | os.PathLike[str]], settings: Settings | None = None) -> Report:
    """Look at files, and at every ``.py`` and ``.pyi`` file below folders. Raises ``NoSuchPath`` and ``BadSettings``."""
    settings = settings or Settings()
    rules = [RULES[name]() for name in settings.rules()]
    report, project, modules = Report(), Project(), list[Module]()
    for path in dict.fromkeys(sources([Path(each) for each in paths], settings)):
        report.files += 1
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise NoSuchPath(f"can't read {path}: {error.strerror}") from error
        if not _TELLING.search(raw):
            continue
        module = _parsed(path, str(path), raw, report)
        if module is not None:
            project.add(module)
            modules.append(module)
    for module in modules:
        report.findings += _asked(module, project, rules, settings)
    report.findings.sort()
    return report


def check_source(text: str, path: str = "<string>", settings: Settings | None = None) -> list[Diagnostic]:
    """Look at one text, as of a file at ``path``; its neighbours are read where it imports them. Raises ``BadSettings``."""
    return check_bytes(text.encode(), path, settings)


def check_bytes(raw: bytes, path: str = "<string>", settings: Settings | None = None) -> list[Diagnostic]:
    """As ``check_source``, of a file's contents: in the encoding that they declare."""
    settings = settings or Settings()
    report, project = Report(), Project()
    module = _parsed(Path(path), path, raw, report)
    if module is not None:
        project.add(module)
        report.findings += _asked(module, project, [RULES[name]() for name in settings.rules()], settings)
    return sorted(report.findings)


def _parsed(path: Path, shown: str, raw: bytes, report: Report) -> Module | None:
    try:
        return Module(path, shown, decode(raw))
    except SyntaxError as error:
        line, column, message = error.lineno or 1, error.offset or 1, error.msg
    except ValueError as error:  # null bytes
        line, column, message = 1, 1, str(error)
    except RecursionError:
        line, column, message = 1, 1, "nested too deeply to be parsed"
    report.findings.append(Diagnostic(shown, line, max(1, column), "syntax_error", message, end_line=line))
    return None


def _asked(module: Module, project: Project, rules: list[Rule], settings: Settings) -> list[Diagnostic]:
    quiet = settings.ignored_in(module.path)
    found = [each for rule in rules if rule.name not in quiet for each in _unique(rule.check(module, project))]
    comments = ignores(module.text)
    left = applied(found, comments)
    if comments and settings.tells("unused_ignore") and "unused_ignore" not in quiet:
        ran = {rule.name for rule in rules} - quiet
        left += useless(module.shown, comments, RULES, ran)
    return left


def _unique(found: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """Without what is told twice of one place: a lock in two blocks of one function, say."""
    seen: set[tuple[int, int, str]] = set()
    for each in found:
        key = each.line, each.column, each.message
        if key not in seen:
            seen.add(key)
            yield each


def sources(paths: Iterable[Path], settings: Settings) -> Iterator[Path]:
    """The files that are meant: those that are named, and those below folders that are named. Raises ``NoSuchPath``."""
    for path in paths:
        if path.is_dir():
            yield from _below(path, settings)
        elif path.exists():
            yield path
        else:
            raise NoSuchPath(f"there is no {path}")


def _below(folder: Path, settings: Settings) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(each for each in folders if not settings.excludes(here / each))
        for name in sorted(files):
            path = here / name
            if name.endswith((".py", ".pyi")) and not settings.excludes(path):
                yield path
