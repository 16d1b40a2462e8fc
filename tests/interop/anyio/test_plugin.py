"""pytest's anyio plugin with ``anyio_backend = "bateau"``, in a project of its own."""

from __future__ import annotations

import os
import subprocess
import sys

CONFTEST = """
import pytest
import bateau.interop.anyio
bateau.interop.anyio.install()

@pytest.fixture(scope="module")
def anyio_backend():
    return "bateau"
"""

TESTS = """
import contextvars
import anyio
import pytest
import sniffio
import bateau

pytestmark = pytest.mark.anyio
variable = contextvars.ContextVar("variable", default=None)
ended = []


@pytest.fixture(scope="module")
async def group():
    variable.set("from the fixture")
    async with anyio.create_task_group() as group:  # stays open over the tests
        yield group
        group.cancel_scope.cancel()
    ended.append("group")


async def test_same_task_and_context(group):
    assert sniffio.current_async_library() == "bateau"
    assert variable.get() == "from the fixture"
    event = anyio.Event()
    group.start_soon(_set, event)
    await event.wait()


async def _set(event):
    await anyio.sleep(0.001)
    event.set()


async def test_scopes():
    with bateau.move_on_after(0.001) as scope:
        await anyio.sleep(30)
    assert scope.cancelled_caught


async def test_fails(group):
    async with anyio.create_task_group() as inner:
        inner.start_soon(_fail)


async def _fail():
    raise ValueError("on purpose")


def test_sync():
    assert ended == ["group"] or ended == []
"""


HANGS = """
import anyio
import pytest

pytestmark = pytest.mark.anyio


async def test_hangs():
    await anyio.Event().wait()


async def test_after_a_hang():
    await anyio.sleep(0)
"""


def test_the_plugin_runs_on_bateau(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "test_hanging.py").write_text(HANGS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "anyio", "-p", "no:bateau", "-p", "no:cacheprovider", "-q", "-rA"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    out = done.stdout + done.stderr
    for name in ("test_same_task_and_context", "test_scopes", "test_sync"):
        assert f"PASSED test_it.py::{name}" in out, out
    assert "FAILED test_it.py::test_fails - ValueError('on purpose')" in out, out
    assert "PASSED test_hanging.py::test_after_a_hang" in out, out
    # A test that can never end is an error that says so, and the next one runs.
    assert "FAILED test_hanging.py::test_hangs - bateau.kernel.errors.Deadlock" in out, out
    assert "2 failed, 4 passed" in out, out
