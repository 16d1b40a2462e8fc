"""Which kernel runs is chosen once, at import, and told."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bateau
from bateau.kernel import twin

ABOUT = "from bateau.kernel import twin; print(twin.about())"


def ask(code: str, **environment: str) -> str:
    env = {**os.environ, **environment}
    if not environment:
        env.pop("BATEAU_PURE", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_pure_when_told_so():
    assert ask(ABOUT, BATEAU_PURE="1") == "pure Python: BATEAU_PURE=1 is set"


def test_one_of_two_answers_and_never_an_error():
    answer = ask(ABOUT)
    assert answer == "native (C)" or answer.startswith("pure Python: the C extension")


def test_pure_where_nothing_was_built(tmp_path):
    """A folder of C sources imports as an empty namespace package: that is no build."""
    hidden = (
        "import sys, importlib.abc, types\n"
        "sys.modules['bateau._native'] = types.ModuleType('bateau._native')\n"
        "from bateau.kernel import twin; import bateau\n"
        "async def main(): return 3\n"
        "print(twin.about(), bateau.run(main))"
    )
    assert ask(hidden) == (
        "pure Python: the C extension was not built (a C compiler is needed when bateau is installed) 3"
    )


def test_why_the_build_failed_is_told(tmp_path):
    """Installers hide what it prints. Where the folder of bateau was installed to, a copy of its Python part is enough."""
    root = Path(bateau.__file__).parents[2]
    if not (root / "setup.py").exists():
        pytest.skip("bateau's sources are not here")
    build = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        "--build-lib",
        str(tmp_path),
        "--build-temp",
        str(tmp_path / "temp"),
    ]
    failed = subprocess.run(
        build, cwd=root, env={**os.environ, "CC": "false"}, capture_output=True, text=True, check=False, timeout=60
    )
    assert failed.returncode == 0, failed.stderr
    shutil.copytree(
        root / "src" / "bateau",
        tmp_path / "bateau",
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("_native*", "__pycache__"),
    )
    answer = ask(ABOUT, PYTHONPATH=str(tmp_path), BATEAU_PURE="")
    assert answer.startswith("pure Python: building the C extension failed: ")
    assert "false" in answer


def test_pure_where_the_build_is_of_other_sources():
    old = (
        "import sys, types\n"
        "old = sys.modules['bateau._native'] = types.ModuleType('bateau._native')\n"
        "old.claim = lambda: None; old.VERSION = -1\n" + ABOUT
    )
    assert ask(old) == ("pure Python: the C extension was built from other sources than these; build it again")


@pytest.mark.skipif(twin.native is None, reason="the kernel is pure here")
def test_a_second_copy_of_bateau_in_one_process_is_pure():
    code = (
        "import sys; import bateau.kernel.twin as first\n"
        "native = sys.modules['bateau._native']\n"
        "for name in [n for n in sys.modules if n.startswith('bateau') and n != 'bateau._native']: del sys.modules[name]\n"
        "import bateau.kernel.twin as second, bateau\n"
        "async def main(): return 4\n"
        "print(first.about(), second.about(), bateau.run(main))"
    )
    assert ask(code) == "native (C) pure Python: another copy of bateau in this process has the C twin 4"


def test_the_command_says_which():
    command = [sys.executable, "-m", "bateau.cli", "runtimes", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert {row["kernel"] for row in json.loads(done.stdout)} == {twin.about()}
