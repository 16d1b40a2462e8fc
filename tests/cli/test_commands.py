"""``bateau run`` and ``bateau runtimes``, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

BATEAU = Path(sysconfig.get_path("scripts")) / "bateau"


def bateau(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BATEAU), *args], capture_output=True, text=True, timeout=100, cwd=cwd)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(
        "import sys, bateau\n"
        "async def greet(name='nobody'):\n"
        "    await bateau.yield_now()\n"
        "    print('hello', name, bateau.current_task().host.name)\n"
        "@bateau.main\n"
        "async def entry():\n"
        "    await greet(*sys.argv[1:])\n"
        "def plain():\n"
        "    print('sync')\n"
        "    return 3\n"
        "if __name__ == '__main__':\n"
        "    entry()\n"
    )
    return tmp_path


@pytest.mark.parametrize("runtime", ["native", "asyncio", "uvloop", "trio"])
def test_run_a_script(app: Path, runtime: str) -> None:
    out = bateau("run", "--runtime", runtime, "app.py", "you", cwd=app)
    assert (out.stdout, out.returncode) == (f"hello you {runtime}\n", 0), out.stderr


@pytest.mark.parametrize("target", ["app:greet", "app.py:greet"])
def test_run_a_function(app: Path, target: str) -> None:
    out = bateau("run", "-r", "asyncio", target, "you", cwd=app)
    assert (out.stdout, out.returncode) == ("hello you asyncio\n", 0), out.stderr


def test_run_a_sync_function_and_its_status(app: Path) -> None:
    out = bateau("run", "app:plain", cwd=app)
    assert (out.stdout, out.returncode) == ("sync\n", 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nothing.py"], "no file 'nothing.py'"),
        (["nothing:main"], "no module named 'nothing'"),
        (["app:nothing"], "names no function"),
        (["app"], "neither a file"),
        (["--runtime", "warp", "app.py"], "unknown runtime 'warp'; known: native"),
    ],
)
def test_bad_targets_say_what_is_wrong(app: Path, args: list[str], message: str) -> None:
    out = bateau("run", *args, cwd=app)
    assert out.returncode == 2
    assert message in out.stderr
    assert "Traceback" not in out.stderr


@pytest.mark.parametrize("target", ["more:partial", "more:obj"])
def test_run_what_can_be_called_and_awaited(app: Path, target: str) -> None:
    (app / "more.py").write_text(
        "import functools, app\n"
        "partial = functools.partial(app.greet, 'part')\n"
        "class Called:\n"
        "    async def __call__(self):\n"
        "        await app.greet('object')\n"
        "obj = Called()\n"
        "async def stream():\n"
        "    yield 1\n"
    )
    out = bateau("run", target, cwd=app)
    assert (out.stdout.split()[0], out.returncode, out.stderr) == ("hello", 0, "")
    out = bateau("run", "more:stream", cwd=app)
    assert out.returncode == 2
    assert "'more:stream' gives an async generator" in out.stderr


def test_an_error_of_the_program_is_shown(app: Path) -> None:
    (app / "bad.py").write_text("async def main():\n    raise LookupError('mine')\n")
    out = bateau("run", "bad.py:main", cwd=app)
    assert out.returncode == 1
    assert "LookupError: mine" in out.stderr


def test_runtimes_lists_what_is_here() -> None:
    out = bateau("runtimes")
    assert out.returncode == 0
    for name in ("native", "asyncio", "uvloop", "trio"):
        assert name in out.stdout
    rows = json.loads(bateau("runtimes", "--json").stdout)
    assert {row["name"]: row["problem"] for row in rows}["native"] is None
    assert [row["name"] for row in rows if row["default"]] == ["native"]


def test_runtimes_says_why_not() -> None:
    code = (
        "import sys, importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'uvloop' else real(name, *a)\n"
        "from bateau.cli import main; main(['runtimes'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "uvloop   not available" in out.stdout.replace("uvloop  not", "uvloop   not")
    assert "pip install 'bateau[uvloop]'" in out.stdout


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["runtimes", "--help"], ["demo", "--help"]])
def test_help_is_there(args: list[str]) -> None:
    out = bateau(*args)
    assert out.returncode == 0
    assert "usage: bateau" in out.stdout


def test_no_command_is_an_error_with_the_usage() -> None:
    out = bateau()
    assert out.returncode == 2
    assert "usage: bateau" in out.stderr


def test_the_command_starts_without_the_event_loops() -> None:
    code = (
        "import sys; from bateau.cli.entry import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('asyncio', 'trio', 'ssl', 'socket') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.stdout.endswith("[]\n"), out.stdout


def test_whoever_reads_the_output_may_have_had_enough():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "bateau.cli", "runtimes"], check=False, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
