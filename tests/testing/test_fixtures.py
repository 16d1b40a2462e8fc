"""Async fixtures: in tasks of their own, of every scope, with scopes and timeouts held open around their `yield`."""

from __future__ import annotations

import pytest

from support.projects import Project

HEAD = """
import asyncio, contextvars, pytest
import bateau
from bateau.testing import runtimes
log = []
def host():
    return bateau.current_task().host
"""
EACH = "native asyncio trio"
AUTO = f"bateau_mode = auto\nbateau_runtimes = {EACH}\nfilterwarnings = error\n"


def of_each(*names: str) -> list[str]:
    return [f"{name}[{runtime}]" for name in names for runtime in EACH.split()]


def test_every_scope_in_the_right_order(project: Project) -> None:
    project.write(
        ini="bateau_mode = auto\nfilterwarnings = error",
        conftest=HEAD
        + "".join(
            f"""
@pytest.fixture(scope={scope!r})
async def {scope}_one():
    log.append("{scope} up")
    async with bateau.scope() as s:
        task = s.spawn(bateau.time.sleep, 1000, background=True)
        yield host()
    assert task.was_cancelled
    log.append("{scope} down")
"""
            for scope in ("function", "class", "module", "package", "session")
        )
        + """
@pytest.fixture
async def plain_async(function_one):
    await bateau.checkpoint()
    return function_one
def pytest_sessionfinish():
    print("LOG", log)
""",
        test_a=HEAD
        + """
class TestOne:
    async def test_1(self, function_one, class_one, module_one, package_one, session_one):
        # All on one loop: the one that lives longest.
        assert {function_one, class_one, module_one, package_one, session_one} == {host()}
    async def test_2(self, class_one, function_one): pass
async def test_3(plain_async, module_one):
    assert plain_async is host() is module_one
""",
        test_b=HEAD
        + """
V = contextvars.ContextVar("V", default=0)
async def test_4(function_one, session_one):
    assert host() is session_one
async def test_5(function_one):
    assert host() is function_one
""",
    )
    done = project.run("-s")
    assert done.counts() == {"passed": 5}
    # test_5 has nothing that outlives it, so it comes on a loop of its own.
    done.has(
        "LOG ['session up', 'package up', 'module up', 'class up', 'function up', 'function down', 'function up', "
        "'function down', 'class down', 'function up', 'function down', 'module down', 'function up', 'function down', "
        "'function up', 'function down', 'package down', 'session down']"
    )


def test_what_is_held_around_the_yield(project: Project) -> None:
    """Scopes, timeouts, nurseries, asyncio's task groups, cleanups: entered before the `yield`, left after it, by one task."""
    project.write(
        ini=AUTO,
        test_a=HEAD
        + """
@pytest.fixture
async def scope():
    async with bateau.scope(name="of the fixture") as s:
        with bateau.timeout(50), bateau.move_on_after(40):
            yield s
        log.append(("left", bateau.current_task().name))
@pytest.fixture
async def lock(scope):
    lock = bateau.sync.Lock()
    async with lock:
        yield lock
@pytest.fixture
async def native(bateau_runtime):
    if bateau_runtime == "trio":
        import trio
        async with trio.open_nursery() as group:
            yield group.start_soon
    else:
        async with asyncio.TaskGroup() as group:
            async with asyncio.timeout(50):
                yield lambda fn, *args: group.create_task(fn(*args))
async def note(what):
    await bateau.time.sleep(0.001)
    log.append(what)
async def test_held(scope, lock, native):
    native(note, "foreign child")
    task = scope.spawn(note, "child")
    await task
    with pytest.raises(TimeoutError):
        with bateau.timeout(0.01):
            await lock.acquire()
    scope.spawn(note, "left to the end")
def test_after(bateau_runtime):
    assert set(log) == {"foreign child", "child", "left to the end", ("left", "fixture scope")}
    log.clear()
""",
    )
    done = project.run()
    assert done.counts() == {"passed": 4}


def test_context_variables(project: Project) -> None:
    project.write(
        ini=AUTO,
        test_a=HEAD
        + """
V = contextvars.ContextVar("V", default="unset")
W = contextvars.ContextVar("W", default="unset")
@pytest.fixture(scope="module")
async def outer():
    token = V.set("module")
    yield
    V.reset(token)
@pytest.fixture
def plain():
    token = W.set("plain")
    yield
    assert W.get() == "plain"
    W.reset(token)
@pytest.fixture
async def inner(outer, plain):
    assert (V.get(), W.get()) == ("module", "plain")
    token = V.set("function")
    yield
    assert V.get() == "function"
    V.reset(token)
@pytest.fixture
def after(inner):
    assert V.get() == "function"
async def test_seen(inner, after):
    assert (V.get(), W.get()) == ("function", "plain")
    V.set("the test's own")
async def test_outer_only(outer):
    assert (V.get(), W.get()) == ("module", "unset")
async def test_none():
    # A module's fixture is there for the module, as it is for plain tests and plain fixtures.
    assert V.get() in ("unset", "module") and W.get() == "unset"
def test_plain_sees_it(inner):
    assert V.get() == "function"
""",
    )
    done = project.run()
    assert done.counts() == {"passed": 12}


def test_failures_of_fixtures(project: Project) -> None:
    project.write(
        ini=AUTO,
        test_a=HEAD
        + """
@pytest.fixture
async def base():
    yield
    log.append("base down")
@pytest.fixture
async def bad_setup(base):
    await bateau.checkpoint()
    raise ValueError("in setup")
    yield
@pytest.fixture
async def bad_teardown(base):
    yield
    await bateau.checkpoint()
    raise ValueError("in teardown")
@pytest.fixture
async def twice():
    yield 1
    yield 2
@pytest.fixture
async def never():
    if False: yield
@pytest.fixture
async def skips(base):
    pytest.skip("not here")
@pytest.fixture
async def cancelled():
    async with bateau.scope() as s:
        s.cancel()
        await bateau.checkpoint()
    with bateau.move_on_after(0) as s:
        pass
    bateau.current_task().cancel("on purpose")
    await bateau.checkpoint()
async def test_setup(bad_setup): pass
async def test_teardown(bad_teardown): pass
async def test_twice(twice): pass
async def test_never(never): pass
async def test_skips(skips): pass
async def test_cancelled(cancelled): pass
async def test_torn_down(): assert log.count("base down") == 3
""",
    )
    done = project.run("--tb=short", "--bateau-runtime=native")
    expected = {"test_setup": "error", "test_teardown": "error", "test_twice": "error", "test_never": "error"}
    expected |= {"test_skips": "skipped", "test_cancelled": "error", "test_torn_down": "passed"}
    assert done.outcomes() == expected
    done.has("test_a.py:16: in bad_setup", "ValueError: in setup")
    done.has("fixture 'never' ended without a `yield`")
    done.has("test_a.py:22: in bad_teardown", "ValueError: in teardown")
    done.has("fixture 'twice' has more than one `yield`")
    assert "fixture 'cancelled' was cancelled while it was being set up: on purpose" in done.text
    assert "src/bateau" not in done.text
    for runtime in ("asyncio", "trio"):
        assert project.run(f"--bateau-runtime={runtime}").outcomes() == expected


def test_a_fixture_that_breaks_takes_its_test_along(project: Project) -> None:
    project.write(
        ini=AUTO,
        test_a=HEAD
        + """
@pytest.fixture
async def service():
    async with bateau.scope(name="service") as s:
        async def run():
            await bateau.time.sleep(0.02)
            raise ValueError("the service died")
        s.spawn(run)
        yield s
@pytest.fixture
async def short():
    with bateau.timeout(0.02):
        yield
@pytest.fixture
async def quiet():
    with bateau.move_on_after(0.02):
        yield
@pytest.fixture
async def unused_by_the_next():
    yield
async def test_service(service):
    await bateau.time.sleep(60)
async def test_short(short):
    await bateau.time.sleep(60)
async def test_quiet(quiet):
    await bateau.time.sleep(60)
async def test_others(unused_by_the_next):
    await bateau.time.sleep(0.03)
""",
    )
    done = project.run("--tb=short")
    outcomes = done.outcomes()
    assert {outcomes[name] for name in of_each("test_service", "test_short", "test_quiet")} == {"failed"}
    assert {outcomes[name] for name in of_each("test_others")} == {"passed"}
    done.has("ValueError: the service died")
    done.has("this came from fixture 'service' while test 'test_service[native]' was using it")
    assert "TimeoutError: timeout of 0.02 s passed" in done.text
    assert (
        "fixture 'quiet' ended while its tests were running: what it held open around its `yield` was cancelled"
        in done.text
    )


def test_a_fixture_that_breaks_between_two_tests(project: Project) -> None:
    project.write(
        ini=AUTO,
        test_a=HEAD
        + """
@pytest.fixture(scope="module")
async def service():
    async with bateau.scope(name="service") as s:
        yield s
async def test_first(service):
    pass
async def test_second(service):
    async def dies():
        raise ValueError("died late")
    service.spawn(dies)
async def test_third(service):
    await bateau.time.sleep(60)
""",
    )
    done = project.run("--tb=short", "--bateau-runtime=native")
    assert done.outcomes() == {"test_first": "passed", "test_second": "failed", "test_third": "failed"}
    done.has(
        "this came from fixture 'service' at the end of test 'test_second', which uses it", "ValueError: died late"
    )
    assert "During handling" not in done.text
    done.has("fixture 'service' has ended already")


def test_parameters_and_the_runtime_that_changes(project: Project) -> None:
    project.write(
        ini="filterwarnings = error",
        test_a=HEAD
        + """
@pytest.fixture(scope="session", params=["a", "b"])
async def letter(request):
    log.append(("up", request.param))
    yield request.param, host().name
    log.append(("down", request.param))
@runtimes("native", "trio")
async def test_one(letter, bateau_runtime):
    assert letter[1] == bateau_runtime == host().name
@runtimes("native", "trio")
async def test_two(letter, bateau_runtime):
    assert letter[1] == bateau_runtime == host().name
@runtimes("trio")
async def test_three(letter):
    assert letter[1] == "trio"
def test_log():
    # One at a time, each torn down before the next; the last is still there.
    ups = [what for what, _ in log]
    assert ups == ["up", "down"] * (len(log) // 2) + ["up"]
""",
    )
    done = project.run()
    assert done.counts() == {"passed": 11}


def test_methods_and_classes(project: Project) -> None:
    project.write(
        ini="bateau_mode = auto",
        test_a=HEAD
        + """
class Base:
    @pytest.fixture
    async def mine(self):
        self.value = 3
        yield type(self).__name__
    async def test_method(self, mine):
        assert self.value == 3 and mine == type(self).__name__
@pytest.fixture
async def outer():
    return "outer"
class TestA(Base): pass
class TestB(Base):
    @pytest.fixture
    async def outer(self, outer):
        assert outer == "outer"
        self.value = 3
        return "inner"
    async def test_override(self, outer):
        assert outer == "inner"
    @pytest.fixture(autouse=True)
    async def always(self):
        log.append("always")
        yield
    async def test_autouse(self):
        assert log
    @staticmethod
    async def test_static(): pass
@pytest.mark.usefixtures("unnamed")
async def test_usefixtures():
    assert "unnamed" in log
@pytest.fixture
async def unnamed():
    log.append("unnamed")
""",
    )
    assert project.run().counts() == {"passed": 6}


def test_getfixturevalue(project: Project) -> None:
    project.write(
        ini="bateau_mode = auto",
        test_a=HEAD
        + """
@pytest.fixture
async def own():
    yield "own"
@pytest.fixture(scope="module")
async def shared():
    yield "shared"
@pytest.fixture
def early(request):
    return request.getfixturevalue("shared")
@pytest.fixture
def late(own, request):
    return request.getfixturevalue("shared")
async def test_inside(request):
    request.getfixturevalue("own")
async def test_early(early):
    assert early == "shared"
async def test_late(late): pass
def test_of_a_plain_test(own, request):
    assert own == "own"
""",
    )
    done = project.run()
    expected = {
        "test_inside": "failed",
        "test_early": "passed",
        "test_late": "failed",
        "test_of_a_plain_test": "passed",
    }
    assert done.outcomes() == expected
    assert "request.getfixturevalue('own') inside a running async test or fixture" in done.text
    assert "fixture 'shared' outlives the test and was asked for by request.getfixturevalue()" in done.text


@pytest.mark.parametrize("runtime", EACH.split())
def test_what_a_test_leaves_on_its_own_loop_ends_with_it(project: Project, runtime: str) -> None:
    """Also with function fixtures: after them, so that they find what they made."""
    project.write(
        ini=f"bateau_mode = auto\nbateau_runtimes = {runtime}",
        test_a=HEAD
        + """
@pytest.fixture
async def keeper(bateau_runtime):
    made = []
    yield made
    assert made[0].done() is False if bateau_runtime != "trio" else True
async def test_leaves(keeper, bateau_runtime):
    async def forever():
        try:
            await bateau.time.sleep(1000)
        finally:
            log.append("ended")
    if bateau_runtime == "trio":
        import trio.testing
        trio.lowlevel.spawn_system_task(forever)
        await trio.testing.wait_all_tasks_blocked()
    else:
        keeper.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)
def test_after(): assert log == ["ended"]
""",
    )
    done = project.run()
    assert done.counts()["passed"] == 2
    if runtime != "trio":
        done.has("leftover_task")
