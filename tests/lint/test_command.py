"""The command `bateau lint`: what it prints, its exit status, comments, settings, several files."""

from __future__ import annotations

import gc
import io
import json
import sys
from pathlib import Path

import pytest

from bateau.cli.entry import main as command
from bateau.lint import BadSettings, NoSuchPath, Settings, check_paths, check_source
from bateau.lint.diagnostic import OWN_NAMES

ROOT = Path(__file__).parents[2]
SLEEPS = "import time\n\n\nasync def f():\n    time.sleep(1){}\n"


def written(folder: Path, **files: str) -> Path:
    """Files by their names; `folder_in_file` is one in a folder."""
    for name, text in files.items():
        path = folder / f"{name.replace('_in_', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(text: str, **options: object) -> list[tuple[int, str]]:
    return [(each.line, each.name) for each in check_source(text, settings=Settings(**options))]  # type: ignore[arg-type]


def test_text_and_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, bad=SLEEPS.format(""), good="async def f():\n    pass\n")
    assert command(["lint", "--isolated", str(tmp_path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{tmp_path}/bad.py:5:5: scheduling_delay: `time.sleep(1)`")
    assert out[1:] == [
        "  help: use `await bateau.time.sleep` instead of `time.sleep`",
        "  more: docs/hazards.md#scheduling_delay",
        "1 finding in 2 files",
    ]
    assert command(["lint", "--isolated", str(tmp_path / "good.py")]) == 0
    assert capsys.readouterr().out == "no findings in 1 file\n"
    assert gc.isenabled()


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, bad=SLEEPS.format(""))
    assert command(["lint", "--isolated", "--format", "json", str(tmp_path)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["files"]) == ("1.0", 1)
    (finding,) = found["findings"]
    assert (finding["line"], finding["column"], finding["end_line"], finding["name"]) == (5, 5, 5, "scheduling_delay")
    assert finding["chapter"] == "docs/hazards.md#scheduling_delay"


def test_github(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, bad=SLEEPS.format(""))
    assert command(["lint", "--isolated", "--format", "github", str(tmp_path / "bad.py")]) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        f"::error file={tmp_path}/bad.py,line=5,col=5,endLine=5,title=bateau lint%3A scheduling_delay::"
    )
    assert out.count("\n") == 1


def test_standard_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def given(raw: bytes, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        return command(["lint", "-", *arguments]), capsys.readouterr().out

    status, out = given(SLEEPS.format("").encode(), "--isolated")
    assert status == 1
    assert out.startswith("<stdin>:5:5: scheduling_delay: ")
    assert given(b"x = 1\n", "--isolated")[0] == 0
    assert given("# coding: latin-1\nasync def ä(): pass\n".encode("latin-1"), "--isolated")[0] == 0
    # With a name, the settings and the neighbours are those of its folder.
    written(tmp_path, blocks="import time\n\n\ndef slow():\n    time.sleep(1)\n")
    (tmp_path / "pyproject.toml").write_text('[tool.bateau.lint.per-file-ignores]\n"quiet.py" = ["scheduling_delay"]\n')
    text = b"from blocks import slow\n\n\nasync def f():\n    slow()\n"
    status, out = given(text, "--stdin-filename", str(tmp_path / "loud.py"))
    assert (status, out.startswith(f"{tmp_path}/loud.py:5:5: scheduling_delay: ")) == (1, True)
    assert given(text, "--stdin-filename", str(tmp_path / "quiet.py"))[0] == 0
    monkeypatch.setattr(sys, "stdin", None)  # as in a process that was started without one
    assert command(["lint", "-"]) == 2
    assert "there is no standard input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no nowhere"),
        (["--select", "strange", "."], "no rule is called 'strange'; there are: blocking_file_call, "),
        (["--explain", "strange"], "no rule is called 'strange'"),
        (["--config", "nowhere.toml", "."], "nowhere.toml"),
        (["-", "."], "standard input (-) is looked at by itself"),
        (["--stdin-filename", "a.py", "."], "--stdin-filename goes with the path -"),
    ],
)
def test_what_can_not_be_done_is_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["lint", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_explain_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["lint", "--explain", "foreign_await"]) == 0
    out = capsys.readouterr().out
    assert 'bateau.main(runtime="trio")' in out and "docs/hazards.md#foreign_await" in out
    assert command(["lint", "--explain", "unused_ignore"]) == 0
    assert command(["lint", "--rules"]) == 0
    out = capsys.readouterr().out
    assert "* foreign_await" in out and "  never_waits" in out


def test_names_of_its_own_have_their_place_in_the_page() -> None:
    page = (ROOT / "docs" / "linting.md").read_text()
    for name in OWN_NAMES:
        assert f'<a id="{name}"></a>' in page


# ------------------------------------------------------------ comments


def test_comments_ignore_what_they_name() -> None:
    assert names(SLEEPS.format("  # bateau: ignore[scheduling_delay]  because")) == []
    assert names(SLEEPS.format("  # noqa  # bateau: ignore[self_wakes, scheduling_delay]")) == [(5, "unused_ignore")]
    assert names(SLEEPS.format("  # bateau: ignore")) == [(5, "scheduling_delay"), (5, "unused_ignore")]
    assert names(SLEEPS.format("  # bateau: ignore[strange]")) == [(5, "scheduling_delay"), (5, "unused_ignore")]
    assert names('text = "# bateau: ignore[strange]"\n') == []
    before = (
        "import time\n\n\nasync def f():\n    # bateau: ignore[scheduling_delay]\n    # really\n\n    time.sleep(1)\n"
    )
    assert names(before) == []
    longer = "import time\n\n\nasync def f():\n    time.sleep(\n        1,  # bateau: ignore[scheduling_delay]\n    )\n"
    assert names(longer) == []


def test_a_comment_in_a_block_is_not_about_its_head() -> None:
    text = "import threading\n\n\nasync def f(lock: threading.Lock, g):\n    with lock:\n        await g()  # bateau: ignore[thread_lock_across_await]\n"
    assert names(text) == [(5, "thread_lock_across_await"), (6, "unused_ignore")]


def test_rules_that_do_not_run_have_no_say() -> None:
    text = SLEEPS.format("  # bateau: ignore[scheduling_delay]")
    assert names(text, select=("self_wakes",)) == []
    assert names("x = 1  # bateau: ignore[scheduling_delay]\n") == [(1, "unused_ignore")]
    assert names("x = 1  # bateau: ignore[scheduling_delay]\n", ignore=("unused_ignore",)) == []


# ------------------------------------------------------------ settings


def test_settings_are_found_and_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(
        tmp_path,
        app=SLEEPS.format(""),
        tests_in_test_app=SLEEPS.format(""),
        vendored_in_x=SLEEPS.format(""),
        made_pb2=SLEEPS.format(""),
    )
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "x.py").write_text(SLEEPS.format(""))
    (tmp_path / "pyproject.toml").write_text(
        """
[tool.bateau.lint]
extend-select = ["never_waits"]
exclude = ["vendored", "*_pb2.py"]
[tool.bateau.lint.per-file-ignores]
"tests/**" = ["scheduling_delay"]
"""
    )
    assert command(["lint", "--format", "json", str(tmp_path)]) == 1
    found = json.loads(capsys.readouterr().out)
    told = [(Path(each["path"]).name, each["name"]) for each in found["findings"]]
    assert told == [("app.py", "never_waits"), ("app.py", "scheduling_delay"), ("test_app.py", "never_waits")]
    assert command(["lint", "--select", "scheduling_delay", str(tmp_path / "tests")]) == 0
    assert command(["lint", "--ignore", "scheduling_delay,never_waits", str(tmp_path)]) == 0
    assert command(["lint", "--isolated", str(tmp_path / "vendored")]) == 1
    assert command(["lint", str(tmp_path / "vendored" / "x.py")]) == 1  # named itself


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.bateau.lint]\nselect = ['strange']", "no rule is called 'strange'"),
        ("[tool.bateau.lint]\nselekt = []", "has no 'selekt'; there are: exclude, "),
        ("[tool.bateau.lint]\nselect = 'all'", "select is a list of strings"),
        ("[tool.bateau.lint.per-file-ignores]\n'x' = ['strange']", "no rule is called 'strange'"),
        ("[tool.bateau]\nlint = 3", "is a table"),
        ("[tool.bateau.lint", "pyproject.toml: "),
    ],
)
def test_bad_settings_are_told(tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert command(["lint", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error and "pyproject.toml" in error


def test_errors_of_the_functions(tmp_path: Path) -> None:
    with pytest.raises(NoSuchPath, match="there is no"):
        check_paths([tmp_path / "nowhere"])
    with pytest.raises(BadSettings, match="no rule is called 'strange'"):
        check_source("", settings=Settings(select=("strange",)))


# ------------------------------------------------------------ files


def test_what_is_not_python_is_told(tmp_path: Path) -> None:
    assert [(each.line, each.name) for each in check_source("async def f(:\n    pass\n")] == [(1, "syntax_error")]
    (tmp_path / "latin.py").write_bytes(b"async def f():\n    return '\xe9'\n")
    (tmp_path / "null.py").write_bytes(b"async def f(): pass\n\0")
    (tmp_path / "declared.py").write_bytes(
        b"# coding: latin-1\nimport time\nasync def f():\n    time.sleep(len('\xe9'))\n"
    )
    report = check_paths([tmp_path])
    assert [(Path(each.path).name, each.name) for each in report.findings] == [
        ("declared.py", "scheduling_delay"),
        ("latin.py", "syntax_error"),
        ("null.py", "syntax_error"),
    ]


def test_warnings_of_the_parser_are_not_passed_on() -> None:
    assert names("async def f():\n    return '\\('\n") == []  # warnings are errors in this suite


def test_a_deep_tree_is_no_matter() -> None:
    text = "async def f(x):\n    return " + "+".join(["x"] * 900) + "\n"
    assert names(text) == []
    assert names("async def f(x):\n    return " + "(" * 150 + "x" + ")" * 150 + "\n") == []


def test_other_files_of_the_package_are_asked(tmp_path: Path) -> None:
    written(
        tmp_path,
        app_in___init__="from .work import save as store\nfrom .work import slow\n",
        app_in_work="import time\nimport asyncio\n\nasync def save(): ...\n\ndef slow():\n    time.sleep(1)\n\nasync def waits():\n    await asyncio.sleep(1)\n",
        app_in_main="import trio\nfrom app import store, slow\nfrom . import work\n\nasync def main():\n    store()\n    slow()\n    work.save()\n    await work.waits()\n\ntrio.run(main)\n",
    )
    # the one file alone, whose imports are read, and the folder: the fault of work.py stands in the folder's report
    alone = check_paths([tmp_path / "app" / "main.py"])
    assert [(each.line, each.name) for each in alone.findings] == [
        (6, "never_awaited"),
        (7, "scheduling_delay"),
        (8, "never_awaited"),
    ]
    assert alone.findings[1].notes[0].startswith(str(tmp_path / "app" / "work.py:7"))
    report = check_paths([tmp_path])
    assert [(Path(each.path).name, each.line, each.name) for each in report.findings][-1] == (
        "work.py",
        10,
        "foreign_await",
    )
    assert len(report.findings) == 4
    (foreign,) = [each for each in report.findings if each.name == "foreign_await"]
    assert "main.py:11" in foreign.message and "main.py:9" in foreign.notes[0]


def test_files_that_import_each_other_in_a_ring(tmp_path: Path) -> None:
    written(
        tmp_path,
        one="from two import b as a\nasync def f():\n    a()\n",
        two="from one import a as b\nasync def g():\n    b()\n",
    )
    assert check_paths([tmp_path]).findings == []
    assert names("async def f(x):\n    y = x\n    x = y\n    with x:\n        await y()\n") == []


def test_what_a_name_is_must_be_sure() -> None:
    maybe = "try:\n    from fast import sleep\nexcept ImportError:\n    from time import sleep\nasync def f():\n    sleep(1)\n"
    assert names(maybe) == []
    assert names("from time import *\nasync def f():\n    input()\n") == []
    assert names("import time\ntime = None\nasync def f():\n    time.sleep(1)\n") == [(4, "scheduling_delay")]
    assert names("async def f(c):\n    if c:\n        import time\n    time.sleep(1)\n") == [(4, "scheduling_delay")]
    assert names("import time\nclass C:\n    time = 1\n    async def f(self):\n        time.sleep(1)\n") == [
        (5, "scheduling_delay")
    ]
    assert names("import time\nasync def f():\n    global time\n    time = 3\n    time.sleep(1)\n") == []
