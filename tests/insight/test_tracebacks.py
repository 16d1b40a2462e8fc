"""Law 18: a traceback shows the user's frames, from the program's start across spawn sites to the fault; and S36, a pasted one too."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bateau
from bateau.insight.tracebacks import format_exception, trim
from bateau.kernel import tracebacks

PROGRAM = """
    import asyncio

    import bateau


    async def leaf(number):
        await asyncio.sleep(0) if FOREIGN else await bateau.yield_now()
        raise ValueError(number)


    async def middle(number):
        async with bateau.scope() as scope:
            scope.spawn(leaf, number, name="leaf")


    async def main():
        async with bateau.scope() as scope:
            scope.spawn(middle, 7, name="middle")


    FOREIGN = False
    START
"""
# The frames and spawns of that program, from its start to its fault.
STORY = [
    "<module>", "main", "spawns task 'middle'", "middle", "spawns task 'leaf'", "leaf",
]  # fmt: skip


def program(tmp_path: Path, start: str, text: str = PROGRAM) -> Path:
    path = tmp_path / "app.py"
    path.write_text(textwrap.dedent(text).replace("START", start))
    return path


def shown(*command: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, env={**os.environ, **env}
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def story(text: str) -> list[str]:
    """Function names and spawns, in the order of the text."""
    return re.findall(r'^ *File "[^"]*app\.py", line \d+, (?:in )?(.+)$', text, re.MULTILINE)


def files(text: str) -> set[str]:
    return {Path(name).name for name in re.findall(r'File "([^"]*)"', text)}


@pytest.mark.law(18)
def test_a_program_that_fails_tells_its_story_from_start_to_fault(tmp_path: Path, runtime) -> None:
    path = program(tmp_path, f"bateau.run(main, runtime={runtime.name!r})")
    text = shown(str(path))
    assert story(text) == STORY
    assert files(text) == {"app.py"}
    assert 'scope.spawn(leaf, number, name="leaf")' in text
    assert "\nValueError: 7\n" in text
    assert "(in 2 nested groups: `except*` catches it)" in text


@pytest.mark.law(18)
def test_everything_is_shown_on_request(tmp_path: Path) -> None:
    path = program(tmp_path, "bateau.run(main)")
    text = shown(str(path), BATEAU_TRACEBACK="full")
    assert "Exception Group Traceback (most recent call last):" in text
    assert {"app.py", "running.py", "program.py", "scope.py"} <= files(text)
    # What is trimmed afterwards is the same story as the one told at once.
    assert story(trim(text)) == STORY


@pytest.mark.law(18)
def test_the_commands_own_frames_are_nobodys_program(tmp_path: Path) -> None:
    path = program(tmp_path, "bateau.run(main)")
    text = shown("-m", "bateau.cli", "run", "--no-record", str(path))
    assert story(text) == STORY
    assert files(text) == {"app.py"}


@pytest.mark.law(18)
def test_a_plain_program_keeps_pythons_own_traceback(tmp_path: Path) -> None:
    text = shown(str(program(tmp_path, "asyncio.run(main())")))
    assert "Exception Group Traceback (most recent call last):" in text


@pytest.mark.law(18)
def test_the_parts_of_a_group_and_what_they_came_of() -> None:
    async def fails(number: int) -> None:
        try:
            raise KeyError(number)
        except KeyError as error:
            if number == 1:
                raise LookupError("caused") from error
            raise LookupError("while handling")  # noqa: B904

    async def group() -> None:
        async with bateau.scope() as scope:
            scope.spawn(fails, 1, name="it's")
            scope.spawn(fails, 2, name="second")

    with pytest.raises(ExceptionGroup) as caught:
        bateau.run(group)
    text = format_exception(caught.value)
    assert "[1 of 2]" in text and "[2 of 2]" in text
    assert text.index(tracebacks.CAUSE) < text.index("LookupError: caused") < text.index(tracebacks.CONTEXT)
    assert """spawns task "it's\"""" in text and "spawns task 'second'" in text
    assert "bateau/kernel" not in text


def test_an_error_that_is_raised_in_a_circle_of_causes_is_told_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert format_exception(first).count("ValueError: second") == 1


@pytest.mark.parametrize("library", ["asyncio", "trio", "anyio", "anyio on trio"])
def test_the_loop_that_a_users_line_starts_is_folded(library: str) -> None:
    """An exception at hand is shown as ``trim`` shows the same one pasted; what a library failed in itself stays."""
    import anyio
    import trio

    async def fails() -> None:
        raise ValueError("x")

    async def asks_the_library() -> None:
        await (trio.sleep(-1) if "trio" in library else asyncio.wait([]))

    runs: dict[str, Callable[[Callable[[], Coroutine[None, None, None]]], None]] = {
        "asyncio": lambda main: asyncio.run(main()),
        "trio": trio.run,
        "anyio": anyio.run,
        "anyio on trio": lambda main: anyio.run(main, backend="trio"),
    }

    def shown(main: Callable[[], Coroutine[None, None, None]]) -> str:
        with pytest.raises(ValueError) as caught:
            runs[library](main)
        text = format_exception(caught.value)
        pasted = trim("".join(traceback.format_exception(caught.value)))
        assert text.splitlines()[1:] == pasted.splitlines()[1:]
        return text

    assert re.findall(r'File ".*[/\\](\w+\.py)", line', shown(fails))[-1] == Path(__file__).name
    assert set(re.findall(r'File "(.*)", line', shown(fails))) == {__file__}
    assert f"{os.sep}{'trio' if 'trio' in library else 'asyncio'}{os.sep}" in shown(asks_the_library)


def test_a_hook_of_the_programs_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", print)
    tracebacks.show_at_the_end()
    assert sys.excepthook is print


# -- pasted traces ---------------------------------------------------------------------------------------------------------

ISSUE = """\
2026-11-02 12:00:01 ERROR request failed
  + Exception Group Traceback (most recent call last):
  |   File "/usr/lib/python3.12/asyncio/runners.py", line 194, in run
  |     return runner.run(main)
  |            ^^^^^^^^^^^^^^^^
  |   File "/srv/app/main.py", line 10, in main
  |     async with anyio.create_task_group() as tg:
  |   File "/srv/venv/lib/python3.12/site-packages/anyio/_backends/_asyncio.py", line 772, in __aexit__
  |     raise BaseExceptionGroup(
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/app/handlers.py", line 31, in handle
    |     raise KeyError(name)
    | KeyError: 'name'
    +------------------------------------
2026-11-02 12:00:02 INFO next
"""
TRIMMED = """\
2026-11-02 12:00:01 ERROR request failed
Traceback (most recent call last):
  File "/srv/app/main.py", line 10, in main
    async with anyio.create_task_group() as tg:
  File "/srv/app/handlers.py", line 31, in handle
    raise KeyError(name)
KeyError: 'name'
(in a group: `except*` catches it)
2026-11-02 12:00:02 INFO next
"""


def test_a_trace_from_an_issue_in_the_middle_of_a_log() -> None:
    assert trim(ISSUE) == TRIMMED


def test_the_frames_between_the_line_that_runs_a_loop_and_main() -> None:
    """S36: a plain asyncio program's trace. Where the loop itself refuses, its frames are all there is to see, and stay."""
    head = 'Traceback (most recent call last):\n  File "/srv/app.py", line 9, in <module>\n    asyncio.run(main())\n'
    loop = (
        '  File "/usr/lib/python3.11/asyncio/runners.py", line 190, in run\n    return runner.run(main)\n'
        '  File "/usr/lib/python3.11/asyncio/base_events.py", line 653, in run_until_complete\n    return future.result()\n'
    )
    called = (
        '  File "/srv/app.py", line 3, in main\n    await asyncio.wait_for(x, 1)\n'
        '  File "/usr/lib/python3.11/asyncio/tasks.py", line 479, in wait_for\n    return fut.result()\n'
    )
    assert trim(f"{head}{loop}{called}ValueError: 1\n") == f"{head}{called}ValueError: 1\n"
    assert trim(f"{head}{loop}RuntimeError: no\n") == f"{head}{loop}RuntimeError: no\n"


@pytest.mark.parametrize("prefix", ["", "> ", "    ", "> > "])
def test_it_may_be_quoted_or_indented(prefix: str) -> None:
    def quoted(text: str) -> str:
        return "".join(prefix + line for line in text.splitlines(keepends=True))

    assert trim(quoted(ISSUE)) == quoted(trim(ISSUE))


def test_colours_repeated_lines_and_other_tracebacks_after_it() -> None:
    text = (
        "\x1b[35mTraceback (most recent call last):\x1b[0m\n"
        '  File "/srv/app/main.py", line 3, in f\n    f()\n  [Previous line repeated 996 more times]\n'
        '  File "/srv/app/main.py", line 4, in g\n    1 / 0\n    ~~^~~\n'
        "ZeroDivisionError: division by zero\n"
        "\nsomething else\n"
        'Traceback (most recent call last):\n  File "/usr/lib/python3.11/site-packages/trio/_core/_run.py", line 1, in x\n'
        "RuntimeError: only machinery\n"
    )
    out = trim(text)
    assert "[Previous line repeated 996 more times]" in out and "ZeroDivisionError" in out
    assert "\nsomething else\n" in out
    assert "_run.py" in out, "a traceback of nothing else is left as it is"


def _nested(depth: int) -> Exception:
    error: Exception = ValueError("the fault")
    for _ in range(depth):
        error = ExceptionGroup("scope", [error])
    return error


def _chained(depth: int) -> Exception:
    error: Exception = ValueError("the fault")
    for _ in range(depth):
        after = KeyError("while that was handled")
        after.__context__ = error
        error = after
    return error


@pytest.mark.parametrize("make", [_nested, _chained])
def test_each_error_is_put_into_words_once(make: Callable[[int], Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's words of an error contain those of all it holds; asked for one by one, an error of 200 scopes took eight seconds."""
    made: list[str] = []
    real = traceback.TracebackException.__init__

    def counted(self: traceback.TracebackException, *args: Any, **kwargs: Any) -> None:
        made.append(args[0].__name__)
        real(self, *args, **kwargs)

    monkeypatch.setattr(traceback.TracebackException, "__init__", counted)
    assert "ValueError: the fault" in format_exception(make(100))
    assert len(made) == 101


def test_text_without_tracebacks_is_left_as_it_is() -> None:
    text = "Traceback is a word\n  | a table | of mine |\n  +----+\n"
    assert trim(text) == text
    assert trim("") == ""


LINES = st.sampled_from(
    [*ISSUE.splitlines(), *TRIMMED.splitlines(), "", "  + x", "    | ", tracebacks.CAUSE, tracebacks.CONTEXT]
)


@given(st.lists(LINES, max_size=30))
@settings(max_examples=200, deadline=None)
def test_whatever_is_pasted_comes_out_again(lines: list[str]) -> None:
    """Cut or shuffled traces: no error, and no line of the user's is lost."""
    out = trim("\n".join(lines))
    for line in lines:
        if "/srv/app" in line and not line.lstrip(" |").startswith("+"):
            assert line.lstrip(" |") in out
