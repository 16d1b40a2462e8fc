"""Every Python snippet of the README and the documentation runs, and prints what the page says it prints.

A fenced `python` block is run as a program of its own in an empty directory and must exit with 0. Two comments, each on the line
before a fence (blank lines may stand between), say otherwise:

    <!-- no-run -->   the block is not run (a fragment, or it needs a network): use it rarely
    <!-- output -->   the fenced `text` or `console` block that follows is exactly what the snippet before it prints
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`]*)$")


@dataclass
class Block:
    page: str
    line: int
    language: str
    text: str
    mark: str  # the comment before the fence: "no-run", "output" or ""


def blocks(page: str, text: str) -> Iterator[Block]:
    lines = text.splitlines()
    mark = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        opening = FENCE.match(line)
        if opening is None:
            if line.strip():
                comment = re.fullmatch(r"<!--\s*(no-run|output)\s*-->", line.strip())
                mark = comment[1] if comment else ""
            continue
        indent, fence, start = len(opening["indent"]), opening["fence"], number
        while number < len(lines) and lines[number].strip() != fence:
            number += 1
        body = "".join(line[indent:] + "\n" for line in lines[start:number])
        language = (opening["info"].split() or [""])[0]
        yield Block(page, start, language, body, mark)
        number += 1
        mark = ""


def snippets(page: str, text: str) -> list[tuple[Block, str | None]]:
    """The blocks to run, each with the output it must print, if the page says one."""
    found: list[tuple[Block, str | None]] = []
    previous: Block | None = None
    for block in blocks(page, text):
        if block.language == "python" and block.mark != "no-run":
            found.append((block, None))
        elif block.mark == "output":
            where = f"{page}:{block.line}"
            assert block.language in {"text", "console"}, f"{where}: an output block is ```text or ```console"
            assert previous is not None, f"{where}: no snippet before this output"
            assert found, f"{where}: no snippet before this output"
            assert found[-1][0] is previous, f"{where}: the block before this output is not a snippet that runs"
            found[-1] = (previous, block.text)
        previous = block
    return found


def pages() -> list[Path]:
    readme = ROOT / "README.md"
    return [*([readme] if readme.exists() else []), *sorted((ROOT / "docs").glob("**/*.md"))]


def every_snippet() -> Iterator[object]:
    for page in pages():
        name = str(page.relative_to(ROOT))
        for block, output in snippets(name, page.read_text()):
            yield pytest.param(block, output, id=f"{name}:{block.line}")


def run(block: Block, output: str | None, directory: Path) -> None:
    program = directory / "snippet.py"
    # Blank lines in front: a traceback shows the line number of the page.
    program.write_text("\n" * block.line + block.text)
    done = subprocess.run(
        [sys.executable, str(program)],
        check=False,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{block.page}:{block.line} exited with {done.returncode}\n{done.stdout}{done.stderr}"
    if output is not None:
        assert done.stdout.rstrip() == output.rstrip(), (
            f"{block.page}:{block.line} prints something else than its page says"
        )


@pytest.mark.parametrize(("block", "output"), list(every_snippet()))
def test_snippet(block: Block, output: str | None, tmp_path: Path) -> None:
    run(block, output, tmp_path)


PAGE = """\
```python
print("a")
```

<!-- output -->

```text
a
```

<!-- no-run -->
```python
raise SystemExit(1)
```

* in a list

  ````python
  print("```")
  ````
"""


def test_the_reading_of_a_page(tmp_path: Path) -> None:
    found = snippets("page", PAGE)
    assert [(block.text, output) for block, output in found] == [('print("a")\n', "a\n"), ('print("```")\n', None)]
    for block, output in found:
        run(block, output, tmp_path)


@pytest.mark.parametrize(
    "text", ["```python\n1 / 0\n```", "```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```"]
)
def test_a_wrong_page_is_told(text: str, tmp_path: Path) -> None:
    [(block, output)] = snippets("page", text)
    with pytest.raises(AssertionError, match="page:1"):
        run(block, output, tmp_path)


def test_an_output_without_its_snippet_is_told() -> None:
    with pytest.raises(AssertionError, match="page:2: no snippet"):
        snippets("page", "<!-- output -->\n```text\n```")
