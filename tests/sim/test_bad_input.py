"""Bad input: an error at once, before anything runs, that says what would be right."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

import bateau
from bateau import sim
from bateau.sim.models import Register

NAN = float("nan")


async def scenario() -> None:
    await bateau.checkpoint()


async def waits() -> None:
    await bateau.time.sleep(1)


async def takes_two(a: int, b: int) -> None:
    await bateau.checkpoint()


async def generator() -> Any:
    yield 1


def check_with_argument(run: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"latency": "x"}, "latency is a sim.Latency"),
        ({"latency": -1}, "latency is a number of seconds, 0 or more"),
        ({"latency": NAN}, "latency is a number of seconds"),
        ({"disk_latency": "x"}, "disk_latency is a sim.Latency"),
        ({"sync_latency": "x"}, "sync_latency is a sim.Latency"),
        ({"stall": "x"}, "stall is a number of seconds"),
        ({"threads": "bogus"}, "threads is one of 'sync', 'lines', 'opcodes'"),
        ({"faults": "many"}, r"faults is a sim.Faults, as sim.Faults.some\(\)"),
        ({"faults": sim.Faults.many}, "call it"),
        ({"seed": "x"}, "seed is a whole number"),
        ({"strategy": 5}, "strategy is one of fifo, .* or a sim.Strategy object"),
        ({"strategy": sim.Strategy}, r"give an object, Strategy\(\)"),
        ({"strategy": "luck"}, "no strategy 'luck'; choose from fifo"),
        ({"max_steps": 0}, "max_steps is a whole number, 1 or more"),
        ({"max_steps": "x"}, "max_steps is a whole number"),
        ({"check": 5}, "check is a function"),
        ({"check": scenario}, "can wait|nothing can wait"),
        ({"check": check_with_argument}, "called without arguments"),
        ({"prepare": 5}, "prepare is a function"),
        ({"forgive": "x"}, "forgive is a class of exceptions"),
        ({"bogus": 1}, "no option 'bogus'; it has .*latency"),
    ],
)
def test_options_of_a_run(options: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        sim.run(scenario, **options)
    if "seed" in options:
        options = {"seeds": [options["seed"]]}
    for jobs in (1, 2):  # also before there are other processes
        with pytest.raises((TypeError, ValueError), match=says):
            sim.explore(scenario, jobs=jobs, **options)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sim.explore(scenario, jobs="x"), "number of processes, is a whole number"),
        (lambda: sim.explore(scenario, jobs=1.5), "number of processes, is a whole number"),
        (lambda: sim.explore(scenario, progress=5), "progress is a function"),
        (lambda: sim.explore(takes_two, args=5), r"args is a tuple .* args=\(5,\)"),
        (lambda: sim.explore(takes_two, args="ab"), "args is a tuple"),
        (lambda: sim.explore(takes_two, args=(1,), jobs=2), r"takes_two is called with args=\(1,\), without the world"),
        (lambda: sim.run(takes_two), "missing a required argument: 'a'"),
        (lambda: sim.run(generator), "generator is an async generator"),
        (lambda: sim.run(3), r"give main, not main\(\)"),
        (lambda: sim.check_determinism(scenario, times="x"), "how many runs to compare, is a whole number"),
        (lambda: sim.cancel_everywhere(waits, scope=5), "scope is a name"),
        (lambda: sim.cancel_everywhere(waits, most="x"), "most is a whole number"),
        (lambda: sim.cancel_everywhere(scenario), "never waits"),
        (lambda: sim.crash_everywhere(waits, ""), "host is a name"),
        (lambda: sim.crash_everywhere(waits, "a", restart_after=-1), "restart_after is a number of seconds, 0 or more"),
        (lambda: sim.replay(scenario, None), "a replay token is text"),
        (lambda: sim.replay(scenario, b"sim-x"), "a replay token is text"),
        (lambda: sim.check_linearizable(sim.History(), "register"), r"models.Register\(\), not 'register'"),
        (lambda: sim.check_linearizable(sim.History(), Register), "call it"),
        (lambda: sim.check_linearizable([], Register()), "history is a sim.History"),
        (
            lambda: sim.is_linearizable(sim.History(), Register(), max_states=0),
            "max_states is a whole number, 1 or more",
        ),
        (lambda: sim.History().invoke(5), "an operation is a name"),
        (lambda: sim.Latency("x"), r"Latency\(least=...\) is a number"),
        (lambda: sim.Latency(2, 1), "0 <= least <= most"),
        (lambda: sim.Latency(0, float("inf")), "both finite"),
        (lambda: sim.Faults(loss=NAN), r"Faults\(loss=...\) must be from 0 to 1"),
    ],
)
def test_arguments(call: Callable[[], Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        call()


@pytest.mark.parametrize(
    ("does", "says"),
    [
        (lambda w: sim.buggify("x", p=5), r"p of buggify\('x'\) is a probability from 0 to 1"),
        (lambda w: sim.buggify("x", p="x"), "is a probability"),
        (lambda w: w.host(""), "a host's name is made of letters"),
        (lambda w: w.host("a b"), "a host's name is made of letters"),
        (lambda w: w.host("a/2"), "a host's name is made of letters"),  # that is its second process
        (lambda w: w.host(5), "a host's name is text"),
        (lambda w: w.host("10.0.0.7"), r"is an address: .* host\('db', '10.0.0.7'\)"),
        (lambda w: w.host("a", "nonsense"), "'nonsense' is no IP address"),
        (lambda w: (w.host("a", "10.0.0.9"), w.host("b", "10.0.0.9")), "'a' and 'b' can't have the same address"),
        (lambda w: w.host("a").start(scenario, name=5), "the name of a process is a name"),
        (lambda w: w.host("a").clock.jump("x"), "a jump of a clock is a number of seconds"),
        (lambda w: w.host("a").clock.jump(NAN), "a jump of a clock is a number of seconds"),
        (lambda w: w.host("a").clock.drift("x"), "a clock's rate is a number"),
        (lambda w: (w.host("a"), w.link("a", "test", latency="x")), "latency is a sim.Latency"),
        (lambda w: (w.host("a"), w.link("a", "test", latency=None)), "latency is a sim.Latency"),
        (lambda w: (w.host("a"), w.link("a", "test", bogus=1)), "a link has no 'bogus'; it has latency, bandwidth"),
        (lambda w: (w.host("a"), w.link("a", "test", bandwidth=0)), "bandwidth is more than 0 bytes per second"),
        (lambda w: (w.host("a"), w.link("a", "test", loss="x")), "loss is a probability"),
        (lambda w: w.partition(5, 6), "a host, its name, or a list of those"),
        (lambda w: w.partition([5], [6]), "a host, its name, or a list of those"),
        (lambda w: sim.always(5), "an invariant is a function"),
        (lambda w: sim.always(lambda x: x), "an invariant is called without arguments"),
        (lambda w: sim.unchanged(scenario), "is async"),
        (lambda w: sim.eventually(lambda: False, within=NAN), "within is a number of seconds"),
        (lambda w: sim.eventually(lambda: False, within="x"), "within is a number of seconds"),
    ],
)
def test_in_a_scenario(does: Callable[[sim.World], Any], says: str) -> None:
    def program(world: sim.World) -> None:
        does(world)

    with pytest.raises((TypeError, ValueError), match=says):
        sim.run(program)


def test_a_check_that_exits_is_a_failure() -> None:
    """Not the end of the exploration, as if all was well."""
    with pytest.raises(sim.Found) as caught:
        sim.explore(scenario, check=lambda: sys.exit(3))
    assert isinstance(caught.value.error, SystemExit)
    with pytest.raises(sim.Found):
        sim.cancel_everywhere(waits, check=lambda: sys.exit(3))


def test_latencies_may_be_seconds() -> None:
    def program() -> float:
        with open("/tmp/x", "w") as file:
            file.write("x")
        return sim.current_world().now

    assert sim.run(program, disk_latency=0.5, latency=1, sync_latency=0) >= 0.5
    assert sim.run(program, disk_latency=None) == 0


def test_a_world_inside_a_running_program_is_told_where_else_it_can_be() -> None:
    async def program() -> None:
        with pytest.raises(bateau.NestedRun, match="takes the calling thread to its end.*plain function") as caught:
            sim.explore(scenario, jobs=2)
        assert "host(name).start" in str(caught.value)
        with pytest.raises(bateau.NestedRun):
            sim.run(lambda: None)

    bateau.run(program)
    asyncio.run(program())
    sim.run(program)

    def plain() -> None:
        with pytest.raises(bateau.NestedRun, match="simulated world already"):
            sim.run(scenario)

    sim.run(plain)


def test_the_seed_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATEAU_SEED", "x")
    with pytest.raises(ValueError, match="BATEAU_SEED is a whole number, not 'x'"):
        bateau.run(scenario, runtime="sim")
