"""Engines, their timers and contexts; simulated worlds and the programs in them: each repeated, and nothing is left over."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import bateau
import bateau.time
from bateau.kernel import twin
from bateau.kernel.current import current_host
from support.drift import ROUNDS, Calls, Token, nothing, only_native

pytestmark = only_native
native: Any = twin.native
calls = Calls()


quiet = contextlib.suppress(Exception)


@calls.go_through(
    rounds=ROUNDS // 20,
    WorldFields="at after next_event run_due jump choose_step chance next_thread look",
    WorldEvent="cancel __hash__ __lt__ __le__ __eq__ __ne__ __gt__ __ge__",
    ClockFields="monotonic world_time_at",
)
def world(token: Token) -> Callable[[], object]:
    from bateau.sim.host import HostClock
    from bateau.sim.strategy import by_name
    from bateau.sim.world import World

    worlds = [World(0, by_name(name)) for name in ("random", "fifo")] + [World()]
    thread = SimpleNamespace(process=SimpleNamespace(dead=False))

    def call() -> None:
        for made in worlds:
            made.at(made.now + 1, nothing, token).cancel()
            first, second = made.after(1.0, nothing, token), made.after(1, nothing, token)
            assert first < second and first == first and first != second and {first: token}
            for wrong in (
                lambda made=made: made.at(1),
                lambda made=made: made.at("x", nothing),
                lambda made=made: made.after(None, nothing),
                lambda first=first: first < token,
                lambda made=made: made.choose_step("a", token, True),
                lambda made=made: made.chance("a", token),
                lambda made=made: made.jump(token),
                lambda made=made: [made.after(0, token, token), made.run_due()],
            ):
                with contextlib.suppress(TypeError):
                    wrong()
            assert made.next_event() is not None
            made.jump(made.now + 2.5)
            made.run_due()
            assert made.choose_step("a", [token, token], True) in (0, 1, 2)
            made.chance("b", 0.5)
            made.look()
            made.ready.append(thread)
            assert made.next_thread() is thread
            made.asked.clear(), made.choices.clear()
            clock = HostClock(made, 5.0)
            assert clock.world_time_at(clock.monotonic() + 1) > made.now
            clock.world = token
            for wrong in (clock.monotonic, lambda clock=clock: clock.world_time_at(1)):
                with contextlib.suppress(TypeError):
                    wrong()

    return call


@calls.go_through(rounds=ROUNDS // 40, EngineFields="_run_ahead _next_timer _live_timer")
def simulated(token: Token) -> Callable[[], object]:
    from bateau import sim

    async def nap(seconds: float, given: object) -> None:
        with bateau.move_on_after(seconds * 3):
            await bateau.time.sleep(seconds)
        with bateau.move_on_after(seconds / 2):
            await bateau.time.sleep(seconds)

    async def main() -> None:
        engine: Any = current_host()
        async with bateau.scope() as scope:
            for number in range(1, 4):
                scope.spawn(nap, float(number), token)
            await bateau.yield_now()
            assert (engine._next_timer() is None) is (engine._live_timer() is None)  # none is cancelled yet

    counter = iter(range(1 << 60))
    return lambda: sim.run(main, seed=next(counter), strategy="random")


@calls.go_through(rounds=ROUNDS // 10, EngineFields="_drop_timers _share_context", EngineTimer="cancel")
def engine(token: Token) -> Callable[[], object]:
    from bateau.kernel.task import Task
    from bateau.runtimes.native import NativeEngine

    variable: contextvars.ContextVar[Token] = contextvars.ContextVar("variable")

    def call() -> None:
        made = NativeEngine()
        context = contextvars.copy_context()
        context.run(variable.set, token)
        made._share_context(Task(made, None, name="its own", context=context))  # not taken, we have it
        made._share_context(Task(made, None, name="shared", context=context.copy()))
        del context
        made.call_at(1e12, lambda: token)
        made.call_at(1e12, lambda: token).cancel()
        native.EngineFields._drop_timers(made)
        made.call_at(1e12, lambda: token)
        made.close()

    return call


@pytest.mark.parametrize("name", calls.names())
def test_calls(name: str) -> None:
    calls.measure(name)
