"""`--bateau-leaks`: what a test left behind fails it, by name and line."""

from __future__ import annotations

import re

import pytest

from support.projects import Project

HEAD = """
import asyncio, os, pytest, socket, subprocess, threading, time, warnings
import bateau
from bateau.testing import runtimes, simulate, virtual_time
kept = []
ended = threading.Event()
def later():
    pass
async def never():
    pass
async def fails():
    1 / 0
class Angry:
    def __del__(self): 1 / 0
"""

# What leaks, and what must be told of it.
LEAKS = {
    "descriptor": ("kept.append(os.open('/dev/null', 0))", r"left behind descriptor \d+: /dev/null"),
    "thread": ("threading.Thread(target=ended.wait, name='stray', daemon=True).start()", "left behind thread 'stray'"),
    "child": ("kept.append(subprocess.Popen(['sleep', '30']))", r"left behind child process \d+: sleep 30"),
    "timer": (
        "asyncio.get_running_loop().call_later(1000, later)",
        r"left on the loop: timer that will call later \[\S+test_leaks.py:7\]",
    ),
    "engine_timer": (
        "bateau.current_task().host.call_at(bateau.now() + 1000, later)",
        r"left on the loop: timer that will call later \[\S+test_leaks.py:7\]",
    ),
    "task": (
        "asyncio.create_task(asyncio.sleep(1000), name='lost')",
        r"left on the loop: asyncio task 'lost' \[\S+tasks.py:\d+\]",
    ),
    "task_error": (
        "kept.append(asyncio.create_task(fails())); await asyncio.sleep(0.01); kept.clear()",
        r"asyncio logged: Task exception was never retrieved\n.*ZeroDivisionError",
    ),
    "coroutine": ("never()", r"coroutine 'never' was never awaited\n.*\n.*test_leaks.py\", line \d+"),
    "operation": ("bateau.time.sleep(1)", r"sleep of 1 s was never awaited: nothing happened \[\S+test_leaks.py:\d+\]"),
    "hazard": (
        """s = bateau.scope()
    async with s:
        s.cancel()
        try: await bateau.checkpoint()
        except BaseException: pass
        await bateau.time.sleep(1)""",
        r"hazard swallowed_cancellation: .*\[\S+test_leaks.py:\d+\]",
    ),
    "generator": (
        "async def g():\n        yield 1\n        yield 2\n    async for x in g(): break",
        r"hazard dropped_without_close: async generator .*\[\S+test_leaks.py:\d+\]",
    ),
    "unraisable": ("Angry()", r"error that nobody could catch in .*ZeroDivisionError.*\[\S+test_leaks.py:\d+\]"),
    "thread_error": (
        "t = threading.Thread(target=lambda: 1 / 0, name='failing'); t.start(); t.join()",
        r"thread 'failing' failed: ZeroDivisionError.*\[\S+test_leaks.py:\d+\]",
    ),
}

CLEAN = {
    "plain": "pass",
    "tasks": "await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001))",
    "scope": "async with bateau.scope() as s: s.spawn(bateau.time.sleep, 0.01)",
    "thread": "await bateau.thread.run(time.sleep, 0.01)",
    "to_thread": "await asyncio.to_thread(time.sleep, 0.01)",
    "closed": "s = socket.socket(); s.close()",
    "cancelled_timer": "asyncio.get_running_loop().call_later(1000, later).cancel()",
    "timeout": "async with asyncio.timeout(1000): await asyncio.sleep(0)",
    "expected": "with pytest.warns(RuntimeWarning):\n        never()",
    "server": "server = await asyncio.start_server(lambda r, w: w.close(), '127.0.0.1', 0); server.close(); await server.wait_closed()",
}


def as_tests(bodies: dict[str, str]) -> str:
    return HEAD + "".join(
        f"@runtimes('native', 'asyncio')\nasync def test_{name}():\n    {body}\n" for name, body in bodies.items()
    )


def test_each_leak_fails_its_test_by_name_and_line(project: Project) -> None:
    project.write(test_leaks=as_tests({name: body for name, (body, _) in LEAKS.items()}))
    done = project.run("--bateau-leaks")
    for name, (_, told) in LEAKS.items():
        for runtime in ("native", "asyncio"):
            if name in {"engine_timer", "generator"} and runtime == "asyncio":
                continue  # there it is asyncio's timer, which is another row; and asyncio's way with generators
            report = done.text.split(f"ERROR at teardown of test_{name}[{runtime}] ")
            assert len(report) > 1, f"{name} on {runtime} passed:\n{done.text}"
            text = report[1].split("\n____")[0]
            assert re.search(told, text), f"{name} on {runtime}: no {told!r} in:\n{text}"
            assert text.count("\n  * ") == (2 if name == "task" else 1), text


def test_clean_tests_pass(project: Project) -> None:
    project.write(test_clean=as_tests(CLEAN), ini="bateau_leaks = true")
    done = project.run()
    assert done.counts() == {"passed": 2 * len(CLEAN)}


def test_plain_tests_trio_and_worlds(project: Project) -> None:
    project.write(
        test_leaks=HEAD
        + """
def test_plain(): kept.append(os.open("/dev/null", 0))
@runtimes("trio", "uvloop")
async def test_other_runtimes(): kept.append(os.open("/dev/zero", 0))
@runtimes("trio", "uvloop")
async def test_clean(): await bateau.thread.run(time.sleep, 0.01)
@virtual_time
async def test_world(): kept.append(os.pipe())
@simulate(seeds=3)
async def test_hazard_in_a_world(): never()
class TestCase(__import__("unittest").TestCase):
    def test_it(self): kept.append(os.open("/dev/full", 0))
"""
    )
    done = project.run("--bateau-leaks")
    assert done.counts() == {"passed": 8, "error": 5}
    done.has("/dev/null", "/dev/zero", "coroutine 'never' was never awaited", "/dev/full")


def test_marks_decide(project: Project) -> None:
    leak = "kept.append(os.open('/dev/null', 0))"
    project.write(
        test_a=HEAD
        + f"""
@pytest.mark.bateau_leaks
async def test_checked(): {leak}
@pytest.mark.bateau_leaks(False, reason="on purpose")
async def test_not_checked(): {leak}
async def test_as_the_option_says(): {leak}
""",
        ini="bateau_mode = auto",
    )
    assert project.run().counts() == {"passed": 3, "error": 1}
    assert project.run("--bateau-leaks").counts() == {"passed": 3, "error": 2}


def test_what_fixtures_hold_is_theirs(project: Project) -> None:
    """A fixture that outlives the test may hold what it likes; one of the test itself has to give it back."""
    project.write(
        test_a=HEAD
        + """
@pytest.fixture(scope="module")
async def server():
    fd = os.open("/dev/null", 0)
    thread = threading.Thread(target=ended.wait, name="of the fixture"); thread.start()
    loop = asyncio.get_running_loop()
    timer = loop.call_later(1000, later)
    task = asyncio.create_task(asyncio.sleep(1000))
    yield
    task.cancel(); timer.cancel(); ended.set(); thread.join(); os.close(fd)
@pytest.fixture(scope="session")
def plain():
    fd = os.open("/dev/zero", 0)
    yield
    os.close(fd)
@pytest.fixture
async def clean():
    fd = os.open("/dev/full", 0)
    yield
    os.close(fd)
@pytest.fixture
async def leaks():
    kept.append(os.open("/dev/random", 0))
@pytest.fixture
def dynamic(request):
    request.getfixturevalue("plain")
async def test_one(dynamic, clean): pass
async def test_two(server, clean): pass
async def test_three(leaks): pass
async def test_four(server, plain): asyncio.get_running_loop().call_later(500, never)
async def test_five(server, plain): pass
async def test_six(): pass
""",
        ini="bateau_mode = auto\nbateau_leaks = true\nbateau_runtimes = native asyncio",
    )
    done = project.run()
    errors = set(re.findall(r"^ERROR \S+::(\S+)", done.text, re.MULTILINE))
    assert errors == {f"test_{n}[{name}]" for n in ("three", "four") for name in ("native", "asyncio")}
    done.has("timer that will call never", "/dev/random")


def test_a_server_that_outlives_the_test_hears_that_its_client_has_gone(project: Project) -> None:
    """Its loop stands still between tests: the check lets it go on before it judges."""
    project.write(
        test_a=HEAD
        + """
@pytest.fixture(scope="module")
async def server():
    async def handle(reader, writer):
        while data := await reader.read(100): writer.write(data)
        writer.close()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
async def test_client(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    writer.close()
    await writer.wait_closed()
async def test_again(server): pass
""",
        ini="bateau_mode = auto\nbateau_leaks = true\nbateau_runtimes = native asyncio uvloop",
    )
    assert project.run().counts() == {"passed": 6}


@pytest.mark.parametrize("option", ["-Werror", "-Wdefault"])
def test_other_warnings_go_where_they_went(project: Project, option: str) -> None:
    project.write(
        test_a=HEAD + "async def test_warns(): warnings.warn('old', DeprecationWarning)\n", ini="bateau_mode = auto"
    )
    done = project.run("--bateau-leaks", option)
    assert done.outcomes() == {"test_warns": "failed" if option == "-Werror" else "passed"}
    done.has("DeprecationWarning: old")
