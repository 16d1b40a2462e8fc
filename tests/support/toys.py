"""A scheduler of thirty lines for the tests of strategies: programs are generators, shared things say when they are touched.

A program is a function of a `Toy`; it and what it spawns are generators that yield to let others run (`yield`), or to be parked until
woken (`yield PARK`). Each answer of the strategy is recorded as a world records it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from bateau.sim.strategy.base import Choices, Strategy

PARK = object()


class Actor:
    def __init__(self, number: int, body: Generator[Any, None, None]) -> None:
        self.id = number
        self.body = body

    def __repr__(self) -> str:
        return f"<actor {self.id}>"


class Toy:
    """One run. `state` is shared; touched through `get` and `set`, it is also known who depends on whom (`touched`)."""

    def __init__(self, strategy: Strategy, stream: str = "tasks toy") -> None:
        self.strategy = strategy
        self.stream = stream
        self.ready: list[Actor] = []
        self.state: dict[str, Any] = {}
        self.log: list[Any] = []
        self.steps = 0
        self.choices: Choices = {}
        self.asked: dict[str, int] = {}
        self.current: Actor | None = None
        self.parked: list[Actor] = []
        self.touched: list[tuple[str, bool]] = []
        self.after_step: Callable[[Toy, Actor], None] | None = None
        self._made = 0

    def spawn(self, body: Generator[Any, None, None]) -> Actor:
        self._made += 1
        actor = Actor(self._made, body)
        self.ready.append(actor)
        return actor

    def get(self, name: str) -> Any:
        self.touched.append((name, False))
        return self.state.get(name, 0)

    def set(self, name: str, value: Any) -> None:
        self.touched.append((name, True))
        self.state[name] = value

    def wake(self, actor: Actor) -> None:
        self.touched.append(("parked", True))
        if actor in self.parked:
            self.parked.remove(actor)
            self.ready.append(actor)

    def note(self, stream: str, answer: int) -> int:
        at = self.asked.get(stream, 0)
        self.asked[stream] = at + 1
        if answer:
            self.choices.setdefault(stream, {})[at] = answer
        return answer

    def choose(self, stream: str, n: int) -> int:
        return self.note(stream, self.strategy.choose(stream, n))

    def chance(self, stream: str, p: float) -> bool:
        return bool(self.note(stream, self.strategy.chance(stream, p)))

    def run(self, program: Callable[[Toy], Generator[Any, None, None]], limit: int = 10_000) -> Toy:
        self.spawn(program(self))
        while self.ready and self.steps < limit:
            index = 0
            if len(self.ready) > 1:
                index = self.note(self.stream, self.strategy.step(self.stream, self.ready, False))
            elif self.strategy.follows:
                self.strategy.only(self.stream, self.ready[0])
            self.step(self.ready.pop(index))
        return self

    def step(self, actor: Actor) -> None:
        self.steps += 1
        self.current = actor
        self.touched = []
        try:
            trap = next(actor.body)
        except StopIteration:
            pass
        else:
            (self.parked if trap is PARK else self.ready).append(actor)
        if self.after_step is not None:
            self.after_step(self, actor)


class ToyLock:
    """First come, first served."""

    def __init__(self, toy: Toy, name: str) -> None:
        self.toy = toy
        self.name = name
        self.owner: Actor | None = None
        self.waiting: list[Actor] = []

    def acquire(self) -> Generator[Any, None, None]:
        toy = self.toy
        toy.touched.append((self.name, True))
        assert toy.current is not None
        if self.owner is None:
            self.owner = toy.current
            return
        self.waiting.append(toy.current)
        toy.touched.append(("parked", True))
        yield PARK

    def release(self) -> None:
        self.toy.touched.append((self.name, True))
        self.owner = self.waiting.pop(0) if self.waiting else None
        if self.owner is not None:
            self.toy.wake(self.owner)
