"""What each rule tells of, and what it must not: `cases/NAME.py`, where a line with a fault ends with `# error: NAME`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bateau.lint import RULES, Settings, check_paths, check_source

FOLDER = Path(__file__).parent / "cases"


def expected(text: str) -> list[tuple[int, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = re.search(r"# error: (\w+)$", line)
        if match:
            found.append((number, match[1]))
    return found


@pytest.mark.law(19)
def test_every_rule_has_cases() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_tells_of_the_faults_and_of_nothing_else(name: str) -> None:
    path = FOLDER / f"{name}.py"
    wanted = expected(path.read_text())
    report = check_paths([path], Settings(select=(name,)))
    assert [(each.line, each.name) for each in report.findings] == wanted
    assert len(wanted) >= 3
    assert all(each.message and each.help for each in report.findings)


@pytest.mark.parametrize("name", RULES)
def test_what_is_good_in_the_explanation_is_good(name: str) -> None:
    rule = RULES[name]
    settings = Settings(select=("default", name))
    assert {each.name for each in check_source(rule.bad, settings=settings)} == {name}
    assert check_source(rule.good, settings=settings) == []
