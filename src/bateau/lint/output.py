"""The findings as text, JSON, or commands of GitHub's log."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from .diagnostic import OWN_NAMES, Diagnostic, chapter_of
from .engine import Report
from .rules import RULES

# The version of the JSON form: the first number changes where a reader of the old one would be misled.
SCHEMA = "1.0"


def as_text(report: Report) -> str:
    """A block for each finding: where and what, what to do, where to read on. Then a line with the number."""
    lines: list[str] = []
    for each in report.findings:
        lines.append(f"{each.path}:{each.line}:{each.column}: {each.name}: {each.message}")
        lines += [f"  {note}" for note in each.notes]
        if each.help:
            lines.append(f"  help: {each.help}")
        if each.suggestion and each.suggestion not in each.help:
            lines.append(f"  write: {each.suggestion}")
        lines.append(f"  more: {each.chapter}")
    count = len(report.findings)
    if count:
        lines.append(f"{count} finding{'s' if count != 1 else ''} in {_files(report)}")
    else:
        lines.append(f"no findings in {_files(report)}")
    return "\n".join(lines)


def _files(report: Report) -> str:
    return f"{report.files} file{'s' if report.files != 1 else ''}"


def as_json(report: Report) -> str:
    """One object: ``schema``, ``files``, ``findings``. A finding's fields are those of ``Diagnostic``, and ``chapter``."""
    return json.dumps(
        {"schema": SCHEMA, "files": report.files, "findings": [_object(each) for each in report.findings]}, indent=2
    )


def _object(finding: Diagnostic) -> dict[str, Any]:
    names = ("path", "line", "column", "end_line", "name", "message", "help", "suggestion", "notes")
    return {name: getattr(finding, name) for name in names} | {"chapter": finding.chapter}


def as_github(report: Report) -> str:
    """Commands that GitHub shows as annotations of the lines."""
    return "\n".join(
        f"::error file={_property(each.path)},line={each.line},col={each.column},endLine={each.end_line or each.line},"
        f"title={_property(f'bateau lint: {each.name}')}::{_data(f'{each.name}: {each.message}; help: {each.help}; {each.chapter}')}"
        for each in report.findings
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def explained(name: str) -> str:
    """What a rule finds, why that is a fault, and the same mended. Raises ``KeyError`` for a name that is no rule's."""
    if name in OWN_NAMES:
        return f"{name}\n\n{OWN_NAMES[name]}\n\nMore: {chapter_of(name)}"
    rule = RULES[name]
    runs = "" if rule.default else f"\n\nIt runs only where it is selected: --select default,{name}."
    return "\n\n".join(
        [
            f"{name}: {rule.title}",
            textwrap.fill(rule.why, 100) + runs,
            "Instead of\n\n" + textwrap.indent(rule.bad.rstrip(), "    "),
            "write\n\n" + textwrap.indent(rule.good.rstrip(), "    "),
            f"Help: {rule.help}",
            f"More: {chapter_of(name)}",
        ]
    )


def catalogue() -> str:
    """The rules, a line each; a star before those that run by default."""
    width = max(len(name) for name in RULES)
    return "\n".join(
        f"{'*' if rule.default else ' '} {name.ljust(width)}  {rule.title}" for name, rule in sorted(RULES.items())
    )
