"""`@simulate`, `@virtual_time` and the sim runtime under pytest."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from bateau.testing import simulate
from support.projects import Project

HEAD = """
import os, pytest, random, socket, time
import bateau
from bateau import sim
from bateau.testing import runtimes, simulate, virtual_time
"""

# Fails on some schedules only: two increments with an await in the middle of each.
LOST_UPDATE = """
async def lost_update(pause):
    total = 0
    async def add(how):
        nonlocal total
        seen = total
        await how()
        total = seen + 1
    async with bateau.scope() as s:
        s.spawn(add, pause, name="first")
        await bateau.checkpoint()
        s.spawn(add, pause, name="second")
    assert total == 2, "an update was lost"
async def rarely():
    if sim.buggify("slow", p=0.05):
        await bateau.time.sleep(1)
"""


def test_one_run_in_virtual_time(project: Project) -> None:
    project.write(
        test_a=HEAD
        + """
@virtual_time
async def test_an_hour():
    began, wall = time.monotonic(), time.time()
    await bateau.time.sleep(3600)
    assert time.monotonic() - began == 3600 == time.time() - wall
@virtual_time
class TestClass:
    async def test_method(self):
        async with bateau.scope() as s:
            for n in range(100): s.spawn(bateau.time.sleep, n)
        assert bateau.current_task().host.name == "sim"
@runtimes("sim", "native")
async def test_both():
    await bateau.time.sleep(0.01)
@virtual_time
async def test_random():
    print("drew", random.random(), os.urandom(4).hex())
def test_nothing_is_left_of_it():
    assert time.monotonic.__module__ == "time" and not hasattr(time.sleep, "__wrapped__")
"""
    )
    done = project.run()
    done.passed(
        "test_an_hour",
        "TestClass::test_method",
        "test_both[sim]",
        "test_both[native]",
        "test_random",
        "test_nothing_is_left_of_it",
    )
    drawn = re.findall("drew .*", done.text)
    assert re.findall("drew .*", project.run().text) == drawn
    assert re.findall("drew .*", project.run("--bateau-seed=7").text) != drawn


def test_a_suite_written_for_asyncio_in_a_world(project: Project) -> None:
    project.write(
        test_a="""
import asyncio, time
async def test_sleeps():
    began = time.monotonic()
    async with asyncio.timeout(5000):
        await asyncio.gather(*(asyncio.sleep(n) for n in range(1000)))
    assert time.monotonic() - began == 999
""",
        ini="bateau_mode = auto",
    )
    project.run("--bateau-runtime=sim").passed("test_sleeps")


def test_a_failure_is_found_told_pinned_and_replayed(project: Project) -> None:
    test = "async def test_lost():\n    await lost_update(rarely)\n"
    project.write(test_a=HEAD + LOST_UPDATE + "@simulate(seeds=500)\n" + test)
    done = project.run(PYTHONHASHSEED="0")
    assert done.outcomes() == {"test_lost": "failed"}
    done.has(
        '>       assert total == 2, "an update was lost"',
        "AssertionError: an update was lost",
        "simulated run, seed ",
        "AssertionError: an update was lost",
        "were not what production does: buggify slow (1)",
        "time",
        "slow",
        "replay: pytest 'test_a.py::test_lost' --bateau-replay sim-",
        'pin:    @simulate.pin("sim-',
        "simulated worlds",
        "test_a.py::test_lost: ",
        "choice points",
    )
    assert "hash seed" not in done.text
    assert "the hash seed of this Python is not pinned" in project.run(PYTHONHASHSEED="random").text
    token = re.findall(r'@simulate\.pin\("(sim-[\w-]+)"\)', done.text)[0]

    replayed = project.run("--bateau-replay", token)
    assert replayed.outcomes() == {"test_lost": "failed"}
    replayed.has("pinned run, seed", "1 pinned")

    # Pinned alone it is only replayed; beside @simulate it comes first; the mended program passes it.
    for marks in (f'@simulate.pin("{token}")\n', f'@simulate.pin("{token}")\n@simulate(seeds=3)\n'):
        project.write(test_a=HEAD + LOST_UPDATE + marks + test)
        pinned = project.run()
        assert pinned.outcomes() == {"test_lost": "failed"}
        pinned.has("pinned run, seed", "test_lost: 1 pinned")
        assert " run (" not in pinned.text
        assert " runs (" not in pinned.text
    project.write(test_a=HEAD + LOST_UPDATE.replace("rarely():\n", "rarely():\n    return\n") + marks + test)
    mended = project.run()
    mended.passed("test_lost")
    mended.has("1 pinned; 3 runs")
    # It is no longer the run that was pinned, and the token of another test is none of this one's: both are told so.
    mended.has(
        "PytestWarning: pinned run passed, but the run went another way",
        "1 answers of 'buggify slow' were never asked for",
    )
    strange = project.run("--bateau-replay", token)
    assert strange.outcomes() == {"test_lost": "failed"}
    strange.has("nothing failed, but the run went another way than the token records")


def test_tokens_that_do_not_fit(project: Project) -> None:
    test = "async def test_it():\n    await bateau.checkpoint()\n"
    make = f"{HEAD}from bateau.sim.token import Token\nfor one in (Token(3, {{}}), Token(3, {{}}, python=(2, 7))): print(one.encode())\n"
    (project.directory / "make.py").write_text(make)
    good, old = subprocess.run(
        [project.command()[0], "make.py"], cwd=project.directory, capture_output=True, text=True, check=True
    ).stdout.split()
    texts = {
        "damaged": f'@simulate.pin("{good[:-3]}")\n',
        "no_token": '@simulate.pin("something")\n',
        "other_options": f'@simulate(faults=sim.Faults(loss=0.1))\n@simulate.pin("{good}")\n',
        "other_python": f'@simulate.pin("{old}")\n@simulate(seeds=2)\n',
        "good": f'@simulate.pin("{good}")\n',
    }
    project.write(**{f"test_{name}": HEAD + marks + test for name, marks in texts.items()})
    done = project.run()
    outcome = {name: re.search(rf"test_{name}.py::test_it (\w+)", done.text)[1] for name in texts}
    assert outcome == {
        "damaged": "FAILED",
        "no_token": "FAILED",
        "other_options": "FAILED",
        "other_python": "PASSED",
        "good": "PASSED",
    }
    assert "a replay token starts with 'sim-'" in done.text
    assert "with other options of the world" in done.text
    assert "pinned run not replayed: the token was made on Python 2.7" in done.text


def test_what_a_test_can_not_say() -> None:
    for options, says in (
        ({"jobs": 4}, "--bateau-jobs=4"),
        ({"seed": 44}, r"seeds=range\(44, 45\)"),
        ({"args": (1,)}, "fixtures"),
    ):
        with pytest.raises(TypeError, match=says):
            simulate(**options)
    with pytest.raises(TypeError, match=r"by name, as in @simulate\(seeds=1000\)"):
        simulate(1000)


def test_which_seeds(project: Project) -> None:
    project.write(
        test_a=HEAD
        + """
seen = []
@simulate(seeds=range(10, 14))
async def test_range(world): seen.append(world.seed)
@simulate(seeds=3)
async def test_number(world): seen.append(world.seed)
@simulate
async def test_default(world): seen.append(world.seed)
@pytest.fixture(autouse=True)
def told(request):
    seen.clear()
    yield
    print(request.node.name, "saw", seen[0], seen[-1], len(seen))
"""
    )
    assert re.findall("(test_.* saw .*)", project.run().text) == [
        "test_range saw 10 13 4",
        "test_number saw 0 2 3",
        "test_default saw 0 99 100",
    ]
    assert re.findall("saw (.*)", project.run("--bateau-seed=5").text) == ["5 5 1"] * 3
    assert re.findall("saw (.*)", project.run("--bateau-seed=5-8").text) == ["5 8 4"] * 3
    assert re.findall("saw (.*)", project.run("--bateau-seeds=20").text) == ["0 19 20"] * 3


def test_fixtures_are_set_up_in_each_run(project: Project) -> None:
    project.write(
        test_a=HEAD
        + """
import contextvars
V = contextvars.ContextVar("V", default=None)
log = []
@pytest.fixture(scope="session")
def outside():
    log.append("outside")
    return 7
@pytest.fixture
async def service(world, outside):
    log.append("up")
    token = V.set("of the service")
    async with bateau.scope() as s:
        yield s, world
        s.cancel()
    V.reset(token)
    log.append("down")
@pytest.fixture
def plain(service, outside):
    log.append("plain up")
    yield outside + 1
    log.append("plain down")
@pytest.fixture
async def always():
    log.append("always")
@pytest.mark.usefixtures("always")
@simulate(seeds=3)
async def test_one(service, plain, world):
    assert plain == 8 and V.get() == "of the service"
    s, w = service
    assert w is world is sim.current_world()
    s.spawn(bateau.time.sleep, 1000)
    await bateau.time.sleep(random.random())
def test_log():
    run = ["up", "always", "plain up", "plain down", "down"]
    assert log[0] == "outside" and sorted(log[1:]) == sorted(run * 3)
    assert [entry for entry in log if entry in ("up", "down")] == ["up", "down"] * 3
    assert V.get() is None
"""
    )
    project.run().passed("test_one", "test_log")


def test_fixtures_of_every_scope_on_a_world_and_a_real_runtime(project: Project) -> None:
    project.write(
        test_a=HEAD
        + """
log = []
@pytest.fixture(scope="module")
async def service():
    log.append(bateau.current_task().host.name)
    async with bateau.scope() as s:
        yield s
@pytest.fixture(scope="module")
def around(service):
    return [service]
@runtimes("sim", "native")
async def test_one(service, around, bateau_runtime):
    assert around == [service]
    await service.spawn(bateau.time.sleep, 0.001)
@runtimes("sim", "native")
async def test_two(service): pass
def test_log(): assert log == ["sim", "sim", "native"], log
"""
    )
    assert project.run().counts() == {"passed": 5}


def test_what_fails_in_fixtures(project: Project) -> None:
    project.write(
        test_a=HEAD
        + """
@pytest.fixture
async def bad_setup():
    raise ValueError("in setup")
@pytest.fixture
async def bad_teardown():
    yield
    raise ValueError("in teardown")
@pytest.fixture
async def breaks():
    async with bateau.scope() as s:
        async def dies():
            await bateau.time.sleep(1)
            raise ValueError("the service died")
        s.spawn(dies)
        yield
@simulate(seeds=2)
async def test_setup(bad_setup): pass
@simulate(seeds=2)
async def test_teardown(bad_teardown): pass
@simulate(seeds=2)
async def test_both(bad_teardown): assert 0, "in the test"
@simulate(seeds=2)
async def test_breaks(breaks): await bateau.time.sleep(60)
@simulate(seeds=2)
def test_plain(bad_teardown): pass
@simulate(seeds=2)
async def test_stuck(): await bateau.sync.Event(name="never").wait()
@simulate(seeds=2)
@pytest.mark.bateau_timeout(10)
async def test_slow(): await bateau.time.sleep(11)
@virtual_time
@pytest.mark.bateau_timeout(10)
async def test_slow_because_of_another(world):
    async def service():
        await bateau.sync.Event(name="of the service").wait()
    await world.host("server").start(service)
@simulate(seeds=2)
@pytest.mark.bateau_timeout(10)
def test_slow_and_plain(world): time.sleep(11)
"""
    )
    done = project.run("--tb=short")
    assert done.counts() == {"failed": 9}
    for told in (
        "ValueError: in setup",
        "ValueError: in teardown",
        "errors of the test and its fixtures",
        "ValueError: the service died",
        "is a plain function and uses the async fixture 'bad_teardown'",
        "wait for event 'never'",
        "test 'test_slow' did not end within 10 s of virtual time",
        "wait for event 'of the service'",
        "test 'test_slow_and_plain' did not end within 10 s of virtual time",
    ):
        assert told in done.text, f"no {told!r} in:\n{done.text}"


def test_outcomes(project: Project) -> None:
    project.write(
        test_a=HEAD
        + """
runs = []
@simulate(seeds=50)
async def test_skips():
    runs.append(1)
    pytest.skip("not today")
@simulate(seeds=50)
async def test_skips_in_a_scope():
    async with bateau.scope() as s:
        async def child(): pytest.skip("not in there")
        s.spawn(child)
@pytest.mark.xfail(raises=ValueError, strict=True)
@simulate(seeds=50)
async def test_xfails():
    raise ValueError("as expected")
@simulate(seeds=2)
async def test_fails():
    pytest.fail("for sure")
@simulate(seeds=5)
def test_plain(world):
    time.sleep(1000)
    assert world.now == 1000
def test_once(): assert runs == [1]
"""
    )
    for jobs in ("1", "2"):
        done = project.run(f"--bateau-jobs={jobs}")
        assert done.outcomes() == {
            "test_skips": "skipped",
            "test_skips_in_a_scope": "skipped",
            "test_xfails": "xfail",
            "test_fails": "failed",
            "test_plain": "passed",
            "test_once": "passed",
        }


def test_several_processes(project: Project) -> None:
    text = HEAD + LOST_UPDATE + "@simulate(seeds=400)\nasync def test_lost():\n    await lost_update(rarely)\n"
    text += "@simulate(seeds=90)\nasync def test_passes(world):\n    print('seed', world.seed)\n    await bateau.time.sleep(1)\n"
    text += (
        "@simulate(seeds=5, strategy='exhaustive')\nasync def test_goes_on(world):\n    await bateau.time.sleep(1)\n"
    )
    project.write(test_a=text, ini="filterwarnings = error")
    one, two = project.run("--bateau-jobs=1"), project.run("--bateau-jobs=2")
    assert (
        one.outcomes() == two.outcomes() == {"test_lost": "failed", "test_passes": "passed", "test_goes_on": "passed"}
    )
    # Which failure comes first depends on how fast the processes are.
    assert len(re.findall("pin: .*", one.text)) == len(re.findall("pin: .*", two.text)) == 1
    two.has("test_passes: 90 runs (")
    two.has("test_goes_on: 1 run (1 schedules, which is all there is)")
    assert project.run("--bateau-jobs=auto", "-k", "passes").counts() == {"passed": 1, "deselected": 2}


def test_the_summary_of_xdist_workers(project: Project) -> None:
    project.write(test_a=HEAD + "@simulate(seeds=7)\nasync def test_it(): await bateau.time.sleep(1)\n")
    done = project.run("-n", "2")
    assert done.counts() == {"passed": 1}
    done.has("simulated worlds", "test_a.py::test_it: 7 runs")


def test_progress_on_a_terminal_only(project: Project) -> None:
    project.write(
        test_a=HEAD
        + "import bateau.testing.progress as p\np.FIRST = 0.05; p.EVERY = 0.01\nreal = time.sleep\n"
        + "@simulate(seeds=150)\nasync def test_long():\n"
        + "    began = PERF()\n    while PERF() - began < 0.004: pass\n    await bateau.time.sleep(1)\n",
        conftest="import builtins, ctypes, ctypes.util\n"
        "libc = ctypes.CDLL(None)\n"
        "def perf():\n    spec = (ctypes.c_long * 2)()\n    libc.clock_gettime(1, spec)\n    return spec[0] + spec[1] / 1e9\n"
        "builtins.PERF = perf\n",
    )
    assert "seed 1" not in project.run().text
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        project.command("--bateau-seeds=150"),
        cwd=project.directory,
        env=project.environment(TERM="xterm"),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    with process:
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            seen += part
    os.close(ours)
    text = seen.decode()
    assert re.search(r" seed \d+/150, \d+ steps, about \d+ s left", text), text
    assert process.returncode == 0
    # What was written is taken back before the outcome.
    line = next(line for line in text.splitlines() if "PASSED" in line)
    assert line.rindex("\b") < line.index("PASSED")


def test_the_hash_seed(project: Project) -> None:
    project.write(
        test_a="import os, sys\ndef test_seed():\n    print('SEED', os.environ.get('PYTHONHASHSEED'), hash('a'))\n",
        ini="bateau_pin_hash_seed = true",
    )
    environment = {"PYTHONHASHSEED": "random"}
    first, second = (project.run("-s", "-k", "seed and not other", **environment) for _ in range(2))
    assert re.findall("SEED 0 .*", first.text) == re.findall("SEED 0 .*", second.text) != []
    assert first.counts() == {"passed": 1}
    assert "SEED 5" in project.run("-s", PYTHONHASHSEED="5").text
    assert re.findall("SEED 0 .*", project.run("-n", "2", **environment).text) == re.findall("SEED 0 .*", first.text)
    project.ini("")
    assert "SEED random" in project.run("-s", **environment).text


def test_a_program_that_calls_pytest_can_not_be_started_again(project: Project) -> None:
    project.write(test_a="def test(): pass", ini="bateau_pin_hash_seed = true")
    (project.directory / "run.py").write_text("import pytest\npytest.main(['-p', 'no:cacheprovider', 'test_a.py'])\n")
    done = subprocess.run(
        [project.command()[0], "run.py"],
        cwd=project.directory,
        env=project.environment(PYTHONHASHSEED="random"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "set PYTHONHASHSEED=0 in its environment" in done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("strategy", ["fifo", "random", "pct", "pos", "surw", "exhaustive"])
def test_strategies_and_faults_go_through(project: Project, strategy: str) -> None:
    project.write(
        test_a=HEAD
        + f"""
@simulate(seeds=20, strategy={strategy!r}, faults=sim.Faults(crash=0.5, downtime=1), max_steps=100_000)
async def test_it(world):
    async def runs_on():
        while True: await bateau.time.sleep(0.5)
    world.host("other").start(runs_on)
    await bateau.time.sleep(4)
"""
    )
    done = project.run()
    done.passed("test_it")
    assert re.search(r"test_it: .*faults crash \d+", done.text), done.text
