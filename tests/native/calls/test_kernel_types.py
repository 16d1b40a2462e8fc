"""The containers of the kernel, its facade, and what it is given to keep: each repeated, and nothing is left over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from bateau.kernel import twin
from support.drift import Calls, Token, only_native

pytestmark = only_native
native: Any = twin.native
calls = Calls()


@calls.go_through(FdTable="get pop items keys clear __iter__ __len__ __contains__ __getitem__ __setitem__ __delitem__")
def fd_table(token: Token) -> Callable[[], object]:
    table = native.FdTable()

    def call() -> None:
        table[0] = table[1] = table[2] = token.__repr__
        table[1] = print
        assert table[1] is print and len(table) == 3 and 2 in table and 5 not in table
        assert table.get(0) == token.__repr__ and table.get(7) is None and table.get(7, token) is token
        assert list(table) == table.keys() == [0, 1, 2] and table.items()[1] == (1, print)
        assert table.pop(1) is print and table.pop(1, token) is token
        del table[0]
        for wrong in (
            lambda: table[0],
            lambda: table.pop(0),
            lambda: table.__setitem__(-1, token),
            lambda: table.get(),
        ):
            with contextlib.suppress(KeyError, ValueError, TypeError):
                wrong()
        table.clear()

    return call


@calls.go_through(Deque="append appendleft popleft clear __iter__ __len__ __getitem__ __setitem__ __delitem__")
def deque(token: Token) -> Callable[[], object]:
    queue = native.Deque()

    def call() -> None:
        for _ in range(5):
            queue.append(token)
            queue.appendleft(token)
        assert queue.popleft() is token
        assert list(queue)[-1] is token and len(queue) == 9 and queue[2] is token
        queue[1] = token
        del queue[3]
        for wrong in (lambda: queue[100], lambda: queue["x"]):
            with contextlib.suppress(IndexError, TypeError):
                wrong()
        with contextlib.suppress(IndexError):
            del queue[100]
        queue.clear()
        with contextlib.suppress(IndexError):
            queue.popleft()

    return call


@calls.go_through(WaitQueue="__iter__ __len__ __contains__ add add_first discard pop peek")
def wait_queue(token: Token) -> Callable[[], object]:
    queue = native.WaitQueue()

    def operation() -> Any:
        op = native.SendFields()
        op.item, op.state = token, 4
        return op

    def call() -> None:
        one, two = operation(), operation()
        queue.add(one)
        queue.add_first(two)
        assert one in queue and token not in queue and list(queue) == [two, one] and len(queue) == 2
        assert queue.peek() is two and queue.pop() is two
        queue.discard(one)
        queue.discard(two)
        assert queue.pop() is None and queue.peek() is None
        with contextlib.suppress(TypeError):
            queue.add(token)
        queue.add(one)
        queue.clear() if hasattr(queue, "clear") else queue.discard(one)

    return call


@calls.go_through(Children="__iter__ __len__ __contains__ __setitem__ __delitem__ pop")
def children(token: Token) -> Callable[[], object]:
    class Node(native.NodeFields):
        kept = token

    def call() -> None:
        here, there, nodes = native.Children(), native.Children(), [Node() for _ in range(4)]
        for node in (*nodes, *nodes):
            node.record = token
            here[node] = None
        assert list(here) == nodes and len(here) == 4 and nodes[1] in here and token not in here
        del here[nodes[1]]
        assert here.pop(nodes[2]) is None and here.pop(nodes[2], token) is token and here.pop(token, 1) == 1
        there[nodes[1]] = None
        for wrong in (
            lambda: here.pop(nodes[1]),
            lambda: here.__delitem__(nodes[1]),
            lambda: there.__setitem__(nodes[0], None),
            lambda: there.__setitem__(token, None),
            lambda: there.__delitem__(token),
            lambda: there.pop(),
        ):
            with pytest.raises((KeyError, RuntimeError, TypeError)):
                wrong()
        assert list(here) == [nodes[0], nodes[3]] and list(there) == [nodes[1]]
        nodes[0].children = there  # is dropped with it

    return call


@calls.go_through(module="claim keep know track last_number count_from")
def functions(token: Token) -> Callable[[], object]:
    def call() -> None:
        with contextlib.suppress(RuntimeError):
            native.claim()
        native.keep("no such name", token)
        native.know("no such name", Token)
        native.track(token)
        native.count_from(native.last_number())
        for wrong in (native.keep, native.know, native.track, native.count_from):
            with contextlib.suppress(TypeError):
                wrong()
            with contextlib.suppress(TypeError):
                wrong(token)

    return call


@calls.go_through(Facade="__getattribute__ __reduce__")
def facade(token: Token) -> Callable[[], object]:
    module = native.Facade("made")

    def call() -> None:
        module.held = token
        for _ in range(3):  # found, found again, and not there
            assert module.held is token
            assert module.__name__ == "made" and getattr(module, str(b"held", "ascii")) is token
        del module.held
        with contextlib.suppress(AttributeError):
            _ = module.held
        assert module.__reduce__()[1] == ("made",)

    return call


@calls.go_through(module="own")
def own(token: Token) -> Callable[[], object]:
    class Mine(native.EventFields):
        pass

    def call() -> None:
        native.own(Mine, "set")
        assert Mine.set.__objclass__ is Mine
        native.own(Mine, "__init__")
        for wrong in ((Mine, "nowhere"), (Mine, token), (token, "set")):
            with contextlib.suppress(AttributeError, TypeError):
                native.own(*wrong)

    return call


@pytest.mark.parametrize("name", calls.names())
def test_calls(name: str) -> None:
    calls.measure(name)
