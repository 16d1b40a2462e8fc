"""`AsyncTestCase`: async tests under plain `unittest`, where no pytest is, and under pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

import bateau
from support.projects import Project

HEAD = """
import asyncio, contextvars, sys, time, unittest
import bateau
from bateau.testing import AsyncTestCase, runtimes, simulate
V = contextvars.ContextVar("V", default="unset")
"""


def run(project: Project, *options: str) -> str:
    """`python -m unittest` in a process where pytest can't be imported."""
    (project.directory / "sitecustomize.py").write_text("import sys\nsys.modules['pytest'] = None\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-m", "unittest", "-v", *options],
        cwd=project.directory,
        env=project.environment(PYTHONPATH=os.pathsep.join([str(project.directory), *sys.path])),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (project.directory / "sitecustomize.py").unlink()
    return done.stdout + done.stderr


WORKS = (
    HEAD
    + """
class Everything(AsyncTestCase):
    log = []
    def setUp(self):
        V.set("from setUp")
    async def asyncSetUp(self):
        self.assertEqual(V.get(), "from setUp")
        V.set("from asyncSetUp")
        self.scope = await self.enterAsyncContext(bateau.scope())
        await self.enterAsyncContext(bateau.timeout(60))
        self.addAsyncCleanup(self.note, "cleaned up")
        self.task = bateau.current_task()
    async def note(self, what):
        await bateau.checkpoint()
        self.log.append(what)
    @runtimes("native", "asyncio", "uvloop", "trio", "sim")
    async def test_each(self):
        self.assertEqual(V.get(), "from asyncSetUp")
        self.assertIs(bateau.current_task(), self.task)
        task = self.scope.spawn(self.note, "child")
        await task
        self.log.append(bateau.current_task().host.name)
    def test_plain(self):
        self.assertEqual(V.get(), "from asyncSetUp")
    async def asyncTearDown(self):
        await bateau.checkpoint()
        self.log.append("asyncTearDown")
    def tearDown(self):
        self.assertEqual(V.get(), "from asyncSetUp")
    @classmethod
    def tearDownClass(cls):
        print("LOG", cls.log, file=sys.stderr)
class OnTrio(AsyncTestCase):
    runtime = "trio"
    async def test_it(self):
        self.assertEqual(bateau.current_task().host.name, "trio")
        for n in range(2):
            with self.subTest(n=n):
                await bateau.time.sleep(0)
class InAWorld(AsyncTestCase):
    runtime = "sim"
    async def asyncSetUp(self): await bateau.time.sleep(1800)
    async def test_an_hour(self):
        await bateau.time.sleep(1800)
        self.assertEqual(time.monotonic(), 3600)
@runtimes("asyncio", "native")
class Marked(AsyncTestCase):
    async def test_name(self):
        self.assertIn(bateau.current_task().host.name, self.id())
    @runtimes("trio")
    async def test_own(self):
        self.assertEqual(bateau.current_task().host.name, "trio")
class Inherits(Marked):
    pass
@unittest.skip("not now")
class Skipped(AsyncTestCase):
    async def test_it(self): 1 / 0
class Outcomes(AsyncTestCase):
    async def test_skips(self): self.skipTest("inside")
    @unittest.expectedFailure
    async def test_expected(self): self.assertEqual(1, 2)
"""
)


def test_under_unittest(project: Project) -> None:
    project.write(test_works=WORKS)
    text = run(project)
    assert re.search(r"^OK \(skipped=2, expected failures=1\)", text, re.MULTILINE), text
    assert re.search(r"^Ran 1[67] tests", text, re.MULTILINE), text  # from 3.12 on the skipped class does not count
    of_one = "['child', '{}', 'asyncTearDown', 'cleaned up']"
    runs = ", ".join(of_one.format(name)[1:-1] for name in ("native", "asyncio", "uvloop", "trio", "sim"))
    assert f"LOG [{runs}, 'asyncTearDown', 'cleaned up']" in text
    assert "test_each (test_works.Everything.test_each) [trio] ... ok" in text


@pytest.mark.parametrize("plugins", [(), ("asyncio", "anyio", "trio")])
def test_under_pytest(project: Project, plugins: tuple[str, ...]) -> None:
    project.write(test_works=WORKS, ini="asyncio_default_fixture_loop_scope = function\nfilterwarnings = error")
    if not plugins:
        project.ini("filterwarnings = error")
    done = project.run(plugins=plugins)
    assert done.counts() == {"passed": 8, "skipped": 2, "xfailed": 1, "subtests": 2}


def test_failures(project: Project) -> None:
    project.write(
        test_fails=HEAD
        + """
class Fails(AsyncTestCase):
    async def test_assert(self):
        await bateau.checkpoint()
        self.assertEqual(1, 2)
    @runtimes("native", "trio")
    async def test_group(self):
        async with bateau.scope() as s:
            async def child(): raise ValueError("in the child")
            s.spawn(child)
class Breaks(AsyncTestCase):
    async def asyncSetUp(self):
        self.scope = await self.enterAsyncContext(bateau.scope())
    async def test_child(self):
        async def child(): raise ValueError("of the set-up's scope")
        self.scope.spawn(child)
        await bateau.time.sleep(60)
@runtimes("native", "asyncio", "trio")
class Hangs(AsyncTestCase):
    timeout = 0.2
    log = []
    async def asyncTearDown(self):
        async with bateau.cleanup(5):
            await bateau.time.sleep(0)
            print("TORN DOWN", file=sys.stderr)
        await bateau.time.sleep(60)
    async def test_hangs(self):
        await bateau.sync.Event(name="never").wait()
class BadMarks(AsyncTestCase):
    @simulate(seeds=3)
    async def test_simulated(self): pass
class BadContext(AsyncTestCase):
    async def test_context(self):
        await self.enterAsyncContext(object())
"""
    )
    text = run(project)
    assert re.search(r"^FAILED \(failures=4, errors=6\)", text, re.MULTILINE), text
    assert "test_fails.py" in text
    assert "src/bateau" not in text, text
    assert "AssertionError: 1 != 2" in text
    assert text.count("ValueError: in the child") == 2
    assert "ValueError: of the set-up's scope" in text
    for name in ("native", "asyncio", "trio"):
        assert f"did not end within 0.2 s of {name}'s clock" in text
    assert text.count("waits: wait for event 'never'") == 3
    assert text.count("TORN DOWN") == 3
    assert "is marked @simulate, which explores test functions under pytest" in text
    assert "does not support the asynchronous context manager protocol" in text


def test_a_runtime_that_is_not_there_is_skipped(project: Project) -> None:
    project.write(
        test_it=HEAD
        + """
import importlib.util as u
real = u.find_spec
from bateau.runtimes import trio as module
module.find_spec = lambda name: None if name == "trio" else real(name)
@runtimes("trio", "native")
class Two(AsyncTestCase):
    async def test_it(self): pass
"""
    )
    text = run(project)
    assert re.search(r"^OK \(skipped=1\)", text, re.MULTILINE), text
    assert "pip install 'bateau[trio]'" in text


def test_debug_raises(project: Project) -> None:
    (project.directory / "program.py").write_text(
        HEAD
        + """
class Fails(AsyncTestCase):
    async def test_it(self): raise KeyError("as it is")
try:
    Fails("test_it").debug()
except KeyError as error:
    print("raised", error)
result = Fails("test_it").run()
print(len(result.errors), result.testsRun)
"""
    )
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=project.directory, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split("\n")[:2] == ["raised 'as it is'", "1 1"]


def test_the_sources_are_those_that_are_tested(project: Project) -> None:
    """A suite that runs in a clone tests the clone, whatever is installed."""
    project.write(
        test_place=HEAD
        + """
class Place(unittest.TestCase):
    def test_it(self):
        print("it is", bateau.__file__, file=sys.stderr)
"""
    )
    assert f"it is {bateau.__file__}" in run(project)
