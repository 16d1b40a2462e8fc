"""Which tests bateau runs, and on which runtimes."""

from __future__ import annotations

import pytest

from support.projects import Project

NAMES = """
import bateau, pytest
from bateau.testing import runtimes, virtual_time

def here():
    return bateau.current_task().host.name
"""


def test_marks_on_functions_classes_and_modules(project: Project) -> None:
    project.write(
        test_a=NAMES
        + """
@runtimes("native", "asyncio", "uvloop", "trio")
async def test_each(bateau_runtime):
    assert here() == bateau_runtime

@runtimes("trio")
async def test_one():
    assert here() == "trio"

@runtimes("asyncio", "trio")
class TestClass:
    async def test_of_the_class(self, bateau_runtime):
        assert here() == bateau_runtime
    @runtimes("native")
    async def test_of_its_own(self):
        assert here() == "native"
    @pytest.mark.parametrize("n", [1, 2])
    async def test_with_parameters(self, n, bateau_runtime):
        assert n in (1, 2) and here() == bateau_runtime
    def test_plain(self):
        pass

@pytest.mark.bateau
async def test_default():
    assert here() == "native"
""",
        test_b=NAMES
        + """
pytestmark = [runtimes("asyncio"), pytest.mark.filterwarnings("error")]
async def test_of_the_module():
    assert here() == "asyncio"
""",
    )
    project.run("--strict-markers").passed(
        *(f"test_each[{name}]" for name in ("native", "asyncio", "uvloop", "trio")),
        "test_one",
        *(f"TestClass::test_of_the_class[{name}]" for name in ("asyncio", "trio")),
        "TestClass::test_of_its_own",
        *(f"TestClass::test_with_parameters[{name}-{n}]" for name in ("asyncio", "trio") for n in (1, 2)),
        "TestClass::test_plain",
        "test_default",
        "test_of_the_module",
    )


def test_every_async_test_of_a_project(project: Project) -> None:
    project.write(
        test_a=NAMES
        + """
async def test_async():
    print("on", here())
def test_sync(): pass
@pytest.fixture
async def where():
    return here()
def test_sync_with_async_fixture(where):
    print("fixture on", where)
"""
    )
    project.ini("filterwarnings = error")
    strict = project.run()
    assert strict.outcomes()["test_async"] == "failed"
    assert strict.outcomes()["test_sync"] == "passed"
    strict.has("async def functions are not natively supported")

    project.ini("bateau_mode = auto")
    automatic = project.run()
    automatic.passed("test_async", "test_sync", "test_sync_with_async_fixture")
    automatic.has("fixture on native")
    assert project.run(BATEAU_RUNTIME="trio").text.count("on trio") == 2

    project.ini("bateau_mode = auto\nbateau_runtimes = asyncio trio")
    several = project.run()
    several.passed(
        *(f"test_async[{name}]" for name in ("asyncio", "trio")),
        *(f"test_sync_with_async_fixture[{name}]" for name in ("asyncio", "trio")),
        "test_sync",
    )

    project.ini("")
    chosen = project.run("--bateau-runtime=uvloop,native")
    assert set(chosen.outcomes()) == {
        *(f"test_async[{name}]" for name in ("uvloop", "native")),
        *(f"test_sync_with_async_fixture[{name}]" for name in ("uvloop", "native")),
        "test_sync",
    }
    assert chosen.status == 0
    assert project.run("--bateau-runtime=trio", "-m", "bateau").counts() == {"passed": 2, "deselected": 1}


def test_the_command_line_chooses_among_those_of_a_mark(project: Project) -> None:
    project.write(
        test_a=NAMES
        + """
@runtimes("native", "trio")
async def test_both(): pass
@runtimes("asyncio")
async def test_other(): pass
"""
    )
    done = project.run("--bateau-runtime=trio")
    assert done.outcomes() == {"test_both[trio]": "passed", "test_both[native]": "skipped", "test_other": "skipped"}
    done.has("it is for asyncio, and --bateau-runtime says trio")


@pytest.mark.parametrize(
    ("options", "ini", "told"),
    [
        (("--bateau-runtime=curio",), "", "--bateau-runtime: unknown runtime 'curio'; known: native, asyncio"),
        ((), "bateau_runtimes = nativ", "bateau_runtimes: unknown runtime 'nativ'"),
        ((), "bateau_mode = always", "bateau_mode must be one of strict, auto, not 'always'"),
        ((), "bateau_timeout = soon", "bateau_timeout must be a number of seconds, not 'soon'"),
        (("--bateau-timeout=-1",), "", "bateau_timeout must be 0 (none) or more seconds, not -1"),
        (("--bateau-seed=x",), "", "--bateau-seed takes a seed or a range of them, as in 7 or 0-99, not 'x'"),
        (("--bateau-seed=9-3",), "", "--bateau-seed takes a seed or a range of them"),
        (("--bateau-seeds=0",), "", "--bateau-seeds must be 1 or more, not 0"),
        (("--bateau-seed=1", "--bateau-seeds=2"), "", "give one of them"),
        (("--bateau-jobs=many",), "", "--bateau-jobs takes a number of processes, 1 or more, or `auto`, not 'many'"),
    ],
)
def test_options_that_make_no_sense(project: Project, options: tuple[str, ...], ini: str, told: str) -> None:
    project.write(test_a="def test(): pass", ini=ini)
    done = project.run(*options)
    assert done.status == 4, done.text
    done.has(told)


def test_marks_that_make_no_sense(project: Project) -> None:
    texts = {
        "unknown": (
            '@runtimes("curio")\nasync def test(): pass',
            "has @runtimes with an unknown runtime 'curio'; known: native",
        ),
        "sync": ('@runtimes("native")\ndef test(): pass', "is neither an async function nor uses an async fixture"),
        "generator": ('@runtimes("native")\nasync def test(): yield', "is an async generator: a test may not `yield`"),
        "no_names": ("@runtimes()\nasync def test(): pass", "ValueError: runtimes(...) needs the name of at least one"),
        "bare": (
            "@runtimes\nasync def test(): pass",
            'TypeError: runtimes(...) takes names of runtimes, as in @runtimes("native"',
        ),
        "not_simulated": (
            '@simulate()\n@runtimes("native")\nasync def test(): pass',
            "is to be simulated and to run on native: add 'sim' to @runtimes",
        ),
        "timeout": (
            '@pytest.mark.bateau_timeout\n@runtimes("native")\nasync def test(): pass',
            "bateau_timeout takes a number",
        ),
        "world": (
            '@runtimes("native")\nasync def test(world): pass',
            "asks for the simulated `world` and is not simulated",
        ),
    }
    head = "import pytest\nfrom bateau.testing import runtimes, simulate\n"
    project.write(**{f"test_{name}": head + text for name, (text, _) in texts.items()})
    done = project.run("--continue-on-collection-errors")
    for name, (_, told) in texts.items():
        assert told in done.text, f"{name}: no {told!r} in:\n{done.text}"
    assert "passed" not in done.text.splitlines()[-1]


def test_a_runtime_that_is_not_there_is_skipped(project: Project) -> None:
    project.write(
        conftest="import sys\nsys.modules['uvloop'] = None\nimport importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'uvloop' else real(name, *a)\n",
        test_a=NAMES + '@runtimes("uvloop", "native")\nasync def test(): pass\n',
    )
    done = project.run()
    assert done.outcomes() == {"test[uvloop]": "skipped", "test[native]": "passed"}
    done.has("pip install 'bateau[uvloop]'")


def test_hypothesis(project: Project) -> None:
    project.write(
        ini="addopts = -p no:cacheprovider",
        test_a=NAMES
        + """
from hypothesis import given, settings, strategies as st
seen = []
@pytest.fixture(scope="module")
async def base():
    yield 10
@runtimes("native", "trio")
@given(n=st.integers(0, 5))
@settings(max_examples=8, database=None, deadline=None)
async def test_numbers(base, bateau_runtime, n):
    await bateau.checkpoint()
    assert here() == bateau_runtime and base + n <= 15
    seen.append(n)
class TestMethods:
    @runtimes("native")
    @given(st.integers(0, 5))
    @settings(max_examples=8, database=None, deadline=None)
    async def test_method(self, n):
        await bateau.checkpoint()
        assert n != 3, "three"
def test_after():
    assert len(seen) > 4
""",
    )
    done = project.run(plugins=("hypothesispytest",))
    assert done.outcomes() == {
        "test_numbers[native]": "passed",
        "test_numbers[trio]": "passed",
        "TestMethods::test_method": "failed",
        "test_after": "passed",
    }
    done.has("assert n != 3", "AssertionError: three")


def test_outcomes_inside_scopes(project: Project) -> None:
    project.write(
        test_a=NAMES
        + """
pytestmark = runtimes("native", "asyncio", "trio")
async def test_skips():
    async def child():
        pytest.skip("not today")
    async with bateau.scope() as s:
        s.spawn(child)
async def test_xfails():
    pytest.xfail("known")
async def test_fails():
    pytest.fail("for sure")
"""
    )
    outcomes = project.run().outcomes()
    assert {outcomes[f"test_skips[{name}]"] for name in ("native", "asyncio", "trio")} == {"skipped"}
    assert {outcomes[f"test_xfails[{name}]"] for name in ("native", "asyncio", "trio")} == {"xfail"}
    assert {outcomes[f"test_fails[{name}]"] for name in ("native", "asyncio", "trio")} == {"failed"}


def test_errors_point_at_the_users_frames(project: Project) -> None:
    project.write(
        test_a=NAMES
        + """
async def inner(n):
    await bateau.time.sleep(0)
    assert n == 2
@runtimes("native", "asyncio", "uvloop", "trio")
async def test_it():
    await inner(1)
@runtimes("native", "trio")
async def test_group():
    async with bateau.scope() as s:
        s.spawn(inner, 1)
"""
    )
    done = project.run("--tb=short")
    assert done.counts() == {"failed": 6}
    assert "src/bateau" not in done.text
    assert "site-packages" not in done.text
    full = project.run("--tb=short", "--full-trace", "-k", "test_it and native")
    assert "runtimes/program.py" in full.text
    assert "runtimes/program.py" in project.run("-k", "test_group", "--tb=native", BATEAU_TRACEBACK="full").text


def test_a_loop_of_its_own_for_each_test(project: Project) -> None:
    project.write(
        ini="bateau_mode = auto\nbateau_runtimes = native asyncio trio",
        test_a=NAMES
        + """
seen = {}
async def test_first(bateau_runtime):
    seen[bateau_runtime] = bateau.current_task().host
async def test_second(bateau_runtime):
    assert bateau.current_task().host is not seen[bateau_runtime]
""",
    )
    done = project.run()
    assert done.counts() == {"passed": 6}


def test_adopted_code_runs_in_a_test(project: Project) -> None:
    """asyncio's own things work in a test on asyncio's family, trio's on trio."""
    project.write(
        test_a="""
import asyncio, trio
from bateau.testing import runtimes
@runtimes("native", "asyncio", "uvloop")
async def test_asyncio():
    async def one():
        await asyncio.sleep(0.001)
        return 1
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(one())
    assert await asyncio.gather(one(), one()) == [1, 1] and task.result() == 1
@runtimes("trio")
async def test_trio():
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.001)
"""
    )
    assert project.run().counts() == {"passed": 4}


def test_a_project_without_async_tests_pays_little(project: Project) -> None:
    """The plugin is loaded by every pytest in an environment: what runs tests comes with the first test of ours."""
    project.write(
        test_a="def test_it(): pass\n",
        conftest="import sys\ndef pytest_sessionfinish():\n    print('\\nLOADED', *sorted(name for name in sys.modules if 'bateau' in name))\n",
    )
    done = project.run("-s")
    done.passed("test_it")
    loaded = set(done.text.split("LOADED ")[1].splitlines()[0].split())
    allowed = {"bateau", "bateau.kernel", "bateau.kernel.current", "bateau.kernel.errors", "bateau.runtimes"}
    allowed |= {
        "bateau.runtimes.detect",
        "bateau.testing",
        "bateau.testing.marks",
        "bateau.testing.options",
        "bateau.testing.claiming",
    }
    loaded -= {"bateau.kernel.twin", "bateau._native"}  # which kernel it is, the fields of the current task depend on
    assert loaded == allowed | {"bateau.testing.plugin"}
