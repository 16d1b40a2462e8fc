"""bateau's plugin beside those of pytest-asyncio, anyio and pytest-trio: each runs its own tests."""

from __future__ import annotations

import pytest

from bateau.kernel.twin import native
from support.projects import Project

# What the running loop of a native program is called.
NATIVE = "NativeLoop" if native is None else "EmbeddedLoop"
ASYNCIO = "asyncio_default_fixture_loop_scope = function\n"

HEAD = """
import asyncio, pytest, sys
import bateau
from bateau.testing import runtimes
def who():
    task = bateau.current_task()
    return task.host.name, task.coro is not None or task.host.name == "trio"
"""

THEIRS = (
    HEAD
    + """
import pytest_asyncio
@pytest_asyncio.fixture
async def theirs():
    yield asyncio.get_running_loop()
@pytest.mark.asyncio
async def test_asyncio(theirs):
    assert theirs is asyncio.get_running_loop()
    assert type(theirs).__module__.startswith("asyncio.")
@pytest.mark.anyio
async def test_anyio(anyio_backend_name):
    import sniffio
    assert sniffio.current_async_library() == anyio_backend_name
@pytest.mark.trio
async def test_trio():
    import trio
    await trio.sleep(0)
"""
)

OURS = """
@pytest.fixture
async def ours():
    yield bateau.current_task().host.name
@runtimes("native", "asyncio", "trio")
async def test_ours(ours, bateau_runtime):
    assert ours == bateau_runtime == bateau.current_task().host.name
"""

EXPECTED = {
    "test_asyncio",
    "test_anyio[asyncio]",
    "test_anyio[trio]",
    "test_trio",
    "test_ours[native]",
    "test_ours[asyncio]",
    "test_ours[trio]",
}
ALL = ("asyncio", "anyio", "trio")


def test_each_runs_its_own(project: Project) -> None:
    project.write(test_a=THEIRS + OURS, ini=ASYNCIO + "filterwarnings = error")
    project.run(plugins=ALL).passed(*EXPECTED)


def test_ours_in_automatic_mode_leaves_marked_ones_alone(project: Project) -> None:
    more = "async def test_unmarked(ours):\n    assert bateau.current_task().host.name == 'trio'\n"
    ini = ASYNCIO + "bateau_mode = auto\nbateau_runtimes = trio\nfilterwarnings = error"
    project.write(test_a=THEIRS + OURS + more, ini=ini)
    project.run(plugins=ALL).passed(*EXPECTED, "test_unmarked")


@pytest.mark.parametrize("mode", ["asyncio_mode = auto", "anyio_mode = auto", "trio_mode = true"])
def test_ours_are_marked_where_another_takes_the_rest(project: Project, mode: str) -> None:
    unmarked = (
        HEAD + "async def test_unmarked():\n    print('library', __import__('sniffio').current_async_library())\n"
    )
    in_class = """
@runtimes("native")
class TestClass:
    async def test_method(self, ours):
        assert ours == "native"
"""
    project.write(test_a=unmarked + OURS + in_class, ini=f"{ASYNCIO}{mode}\nfilterwarnings = error")
    done = project.run(plugins=ALL)
    theirs = {"test_unmarked[asyncio]", "test_unmarked[trio]"} if "anyio" in mode else {"test_unmarked"}
    ours = {f"test_ours[{name}]" for name in ("native", "asyncio", "trio")} | {"TestClass::test_method"}
    done.passed(*theirs, *ours)


@pytest.mark.parametrize("mode", ["asyncio_mode = auto", "anyio_mode = auto", "trio_mode = true"])
def test_two_automatic_modes_are_refused(project: Project, mode: str) -> None:
    project.write(test_a="def test(): pass", ini=f"{ASYNCIO}bateau_mode = auto\n{mode}")
    done = project.run(plugins=ALL)
    assert done.status == 4, done.text
    done.has("bateau_mode = auto and", "both want every async test")


@pytest.mark.parametrize("name", ALL)
def test_a_test_belongs_to_one(project: Project, name: str) -> None:
    project.write(
        test_a=f"{HEAD}@pytest.mark.{name}\n@runtimes('native')\nasync def test(): pass\n", ini=ASYNCIO.rstrip()
    )
    project.run(plugins=ALL).has(f"test_a.py::test is marked for bateau and for {name}'s plugin; only one can run it")


SUITE_OF_ANOTHER = """
import asyncio, pytest, pytest_asyncio
@pytest_asyncio.fixture
async def client():
    loop = asyncio.get_running_loop()
    yield loop
    assert loop is asyncio.get_running_loop()
@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    started = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with started:
        yield started.sockets[0].getsockname()
MARK
async def test_client(client):
    assert client is asyncio.get_running_loop()
    print("on", type(client).__name__)
class TestServer:
    MARK_MODULE
    async def test_echo(self, server):
        reader, writer = await asyncio.open_connection(*server)
        writer.write(b"hello\\n")
        assert await reader.readline() == b"hello\\n"
        writer.close()
        await writer.wait_closed()
def test_sync(): pass
def test_sync_with_theirs(server): assert server
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
@pytest.mark.parametrize("runtime", ["native", "asyncio", "uvloop", "sim"])
def test_the_suite_of_pytest_asyncio_on_our_runtimes(project: Project, mode: str, runtime: str) -> None:
    marks = {"MARK_MODULE": '@pytest.mark.asyncio(loop_scope="module")', "MARK": "@pytest.mark.asyncio"}
    text = SUITE_OF_ANOTHER
    for name, mark in marks.items():
        text = text.replace(name, mark if mode == "strict" else "")
    project.write(test_a=text, ini=f"{ASYNCIO}asyncio_mode = {mode}\nfilterwarnings = error")
    plain = ["test_sync_with_theirs"] if runtime != "sim" else []  # a plain test is outside the worlds of its fixtures
    done = project.run(
        f"--bateau-runtime={runtime}", *([] if plain else ["-k", "not with_theirs"]), plugins=("asyncio",)
    )
    done.passed("test_client", "TestServer::test_echo", "test_sync", *plain)
    done.has(
        "on " + {"native": NATIVE, "asyncio": "_UnixSelectorEventLoop", "uvloop": "Loop", "sim": "SimLoop"}[runtime]
    )


def test_a_suite_that_shares_one_loop_still_does(project: Project) -> None:
    project.write(
        test_a="""
import asyncio
made = []
async def test_first():
    made.append(asyncio.create_task(asyncio.sleep(0.01)))
async def test_second():
    await made[0]
""",
        ini="asyncio_mode = auto\nasyncio_default_fixture_loop_scope = session\nasyncio_default_test_loop_scope = session",
    )
    for runtime in ("native", "asyncio", "uvloop"):
        project.run(f"--bateau-runtime={runtime}", plugins=("asyncio",)).passed("test_first", "test_second")


def test_what_the_command_line_does_not_take(project: Project) -> None:
    """Tests of anyio and pytest-trio stay theirs; those of pytest-asyncio too, where the runtime can't run asyncio's things."""
    project.write(test_a=THEIRS + OURS, ini=ASYNCIO + "filterwarnings = error")
    done = project.run("--bateau-runtime=trio", plugins=ALL)
    assert done.outcomes() == dict.fromkeys(EXPECTED, "passed") | {
        "test_ours[native]": "skipped",
        "test_ours[asyncio]": "skipped",
    }


def test_a_fixture_lives_on_one_loop(project: Project) -> None:
    shared = """
@pytest.fixture(scope="module")
async def shared():
    yield 1
"""
    ours = "@runtimes('asyncio')\nasync def test_ours(shared): pass\n"
    theirs = "@pytest.mark.asyncio\nasync def test_theirs(shared): pass\n"
    project.write(
        test_a=HEAD + shared + ours + theirs,
        test_b=HEAD + shared + theirs + ours,
        ini="asyncio_mode = auto\nasyncio_default_fixture_loop_scope = module\nasyncio_default_test_loop_scope = module",
    )
    done = project.run(plugins=("asyncio",))
    assert done.counts() == {"passed": 2, "failed": 2}
    done.has("fixture 'shared' was set up by bateau, on its own event loop")
    done.has("fixture 'shared' was set up by another plugin, on its own event loop")
