"""Operations that try again: a hint followed by a cancellation or a stop, before the task has stepped, is not lost."""

from __future__ import annotations

import pytest

import bateau
from bateau.kernel.operation import RetryOperation
from bateau.kernel.resource import Resource
from support.waiting import until


class Gate(Resource):
    def __init__(self):
        self.parked: list[Try] = []
        self.open = False

    def hint(self):
        for op in self.parked[:]:
            self.parked.remove(op)
            op.fire()

    def satisfiers(self):
        return "outside"


class Try(RetryOperation[str]):
    __slots__ = ()

    def poll(self):
        if self.resource.open:
            self.value = "through"
        return self.resource.open

    def register(self):
        self.resource.parked.append(self)

    def unregister(self):
        if self in self.resource.parked:
            self.resource.parked.remove(self)


class StoppableTry(Try):
    __slots__ = ()
    ends_on_stop = True


def parked_then(entry, after, kind=Try):
    """Park one task on a gate, do ``after(scope, gate)``, and give how its wait ended."""

    async def main():
        gate = Gate()
        ended: list[object] = []

        async def wait():
            try:
                ended.append(await kind(gate))
            except BaseException as error:
                ended.append(type(error))
                if not isinstance(error, bateau.Stopped):
                    raise

        async with bateau.scope() as outer:
            outer.spawn(until, lambda: ended)
            async with bateau.scope() as scope:
                scope.spawn(wait)
                await until(lambda: gate.parked)
                after(scope, gate)
        assert not gate.parked
        return ended[0]

    return entry.run(main)


@pytest.mark.law(5)
def test_a_false_hint_and_then_a_cancellation(entry):
    def after(scope, gate):
        gate.hint()
        scope.cancel()

    assert issubclass(parked_then(entry, after), bateau.Cancelled)


@pytest.mark.law(11)
def test_a_true_hint_and_then_a_cancellation(entry):
    def after(scope, gate):
        gate.open = True
        gate.hint()
        scope.cancel()

    assert parked_then(entry, after) == "through"


@pytest.mark.law(6)
def test_a_false_hint_and_then_a_stop(entry):
    def after(scope, gate):
        gate.hint()
        scope.stop()

    assert parked_then(entry, after, StoppableTry) is bateau.Stopped


@pytest.mark.law(5)
def test_a_cancellation_alone(entry):
    assert issubclass(parked_then(entry, lambda scope, gate: scope.cancel()), bateau.Cancelled)
