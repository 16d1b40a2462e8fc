"""The snippets of docs/testing.md are tests, so they are run as tests: all of them pass, and those that should be simulated are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from project.test_docs_snippets import Block, blocks
from support.projects import Project

PAGE = Path(__file__).parents[2] / "docs/testing.md"
SNIPPETS = [block for block in blocks(PAGE.name, PAGE.read_text()) if block.language == "python"]


@pytest.mark.parametrize("block", SNIPPETS, ids=lambda block: f"line {block.line}")
def test_snippet(project: Project, block: Block) -> None:
    project.write(test_snippet=block.text, ini="filterwarnings = error")
    done = project.run("--bateau-leaks")
    outcomes = done.outcomes()
    assert outcomes, done.text
    assert set(outcomes.values()) == {"passed"}, done.text
    assert done.status == 0
    if "@simulate" in block.text:
        done.has("simulated worlds", " runs (")


def test_the_example_of_a_race_fails_as_the_page_says(project: Project) -> None:
    [block] = [block for block in SNIPPETS if "take it away" in block.text]
    broken = "\n".join(line.replace("async with self.lock:", "if True:") for line in block.text.splitlines())
    project.write(test_shop=broken)
    done = project.run("-k", "twice")
    assert done.outcomes() == {"test_nothing_is_sold_twice": "failed"}, done.text
    done.has(
        "simulated run, seed", "replay: pytest 'test_shop.py::test_nothing_is_sold_twice' --bateau-replay sim-", "pin:"
    )


def test_the_page_names_every_option_and_mark(project: Project) -> None:
    project.write(test_a="def test(): pass")
    page = PAGE.read_text().replace("`-seeds`, `-jobs`, `-replay`", "--bateau-seeds --bateau-jobs --bateau-replay")
    text = project.run("--help").text + project.run("--markers").text
    options = {word.strip("[]=,:").split("=")[0] for word in text.split() if word.startswith("--bateau-")}
    names = {
        word.rstrip(":") for word in text.split() if word.startswith("bateau_") and word.rstrip(":").isidentifier()
    }
    assert len(options) >= 7
    assert len(names) >= 5
    for name in options | names:
        assert name in page, f"{name} is not in {PAGE.name}"


def test_the_program_of_the_page_runs_under_unittest(project: Project) -> None:
    import subprocess

    [block] = [block for block in SNIPPETS if "unittest.main" in block.text]
    project.write(cases=block.text)
    done = subprocess.run(
        [sys.executable, "cases.py", "-v"],
        cwd=project.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "[asyncio] ... ok" in done.stderr
