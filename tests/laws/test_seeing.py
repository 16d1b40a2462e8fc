"""Law 19: one name per hazard, shared by the code, the warnings and the page that explains them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau.insight import hazards
from bateau.kernel import hazard
from bateau.lint import RULES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "hazards.md"


def reported_in(source: str) -> list[tuple[str | None, int]]:
    """The name that each report in a file gives (None: not written out), with its line."""
    tree = ast.parse(source)
    direct: set[str] = set()
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name in ("report", "note") and (node.module or "").endswith("hazard"):
                    direct.add(alias.asname or alias.name)
                elif alias.name == "hazard":
                    modules.add(alias.asname or alias.name)
    found: list[tuple[str | None, int]] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        fn = node.func
        if (isinstance(fn, ast.Name) and fn.id in direct) or (
            isinstance(fn, ast.Attribute)
            and fn.attr == "report"
            and isinstance(fn.value, ast.Name)
            and fn.value.id in modules
        ):
            name = node.args[0] if node.args else None
            written = isinstance(name, ast.Constant) and isinstance(name.value, str)
            found.append((name.value if written else None, node.lineno))  # type: ignore[union-attr]
    return found


def reported() -> dict[str, list[str]]:
    """Every hazard's name, with the places that report it."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src").glob("bateau/**/*.py")):
        for name, line in reported_in(path.read_text()):
            found.setdefault(name or "", []).append(f"{path.relative_to(ROOT)}:{line}")
    return found


def explained() -> dict[str, tuple[str, str]]:
    """The page's table: name, what it means, what to do."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|\n]+) \| ([^|\n]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len({row[0] for row in rows}) == len(rows), "a hazard is explained twice"
    return {name: (meaning, remedy) for name, meaning, remedy in rows}


@pytest.mark.law(19)
def test_hazards_have_one_name_and_the_page_explains_each() -> None:
    found = reported()
    assert len(found) > 5, f"no reports found under {ROOT / 'src'}"
    assert "" not in found, f"the name is not written out: {found['']}"
    strange = [name for name in found if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)]
    assert not strange, f"not snake_case: {strange}"
    catalogue = {hazard.name: hazard for hazard in hazards.catalogue()}
    assert sorted(set(found) - set(catalogue)) == [], "reported, but not in the catalogue of bateau.insight.hazards"
    looked_for = {hazard.name for hazard in (*hazards.LOOKED_FOR, hazards.SCHEDULING_DELAY)}
    assert sorted(set(catalogue) - looked_for - set(found)) == [], "in the catalogue, but never reported or looked for"
    register = {hazard.name: hazard for hazard in hazards.register()}
    assert set(register) == {*catalogue, *(hazard.name for hazard in hazards.LINTED)}
    assert sorted(set(RULES) - set(register)) == [], "told by lint, but not in the register"
    assert sorted(set(register) - set(catalogue) - set(RULES)) == [], "said to be lint's, but no rule has that name"
    page = explained()
    assert sorted(set(register) - set(page)) == [], "in the register, but not explained in docs/hazards.md"
    assert sorted(set(page) - set(register)) == [], "explained in docs/hazards.md, but not in the register"
    chapters = re.findall(r"^## `(\w+)`$", PAGE.read_text(), re.MULTILINE)
    assert sorted(chapters) == sorted(register), "each hazard has one chapter, under its name"
    assert len({hazard.title for hazard in register.values()}) == len(register), "two hazards with one title"
    assert len({meaning for meaning, _ in page.values()}) == len(page), "two names with one meaning"


@pytest.mark.law(19)
def test_the_collection_itself() -> None:
    source = """
from ..kernel.hazard import report as tell
from ..kernel import hazard
def f(name):
    tell("one_name", "text", site)
    hazard.report("other_name", "text", site)
    tell(name, "text", site)
    self.report("no hazard")
"""
    assert reported_in(source) == [("one_name", 5), ("other_name", 6), (None, 7)]


@pytest.mark.law(19)
def test_a_report_is_a_warning_with_the_name_or_goes_to_a_tool() -> None:
    with pytest.warns(bateau.HazardWarning, match=r"^some_name: what happened$") as caught:
        hazard.report("some_name", "what happened", ("file.py", 7))
    assert [(w.filename, w.lineno) for w in caught] == [("file.py", 7)]
    seen: list[Any] = []
    remove = hazard.add_sink(seen.append)
    try:
        hazard.report("some_name", "what happened", ("file.py", 7))
    finally:
        remove()
    assert [str(finding) for finding in seen] == ["some_name: what happened [file.py:7]"]
