"""The asyncio loop in C, its handles and its transports: each call repeated, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

from bateau.interop.asyncio import new_event_loop
from bateau.kernel import twin
from support.drift import ROUNDS, Calls, Token, measure, nothing, only_native
from support.loops import Recorder

pytestmark = only_native
native: Any = twin.native

calls = Calls(
    LoopCore="call_soon call_soon_threadsafe call_at call_later time get_debug create_future _run_once _add_reader _add_writer "
    "_remove_reader _remove_writer _add_callback _write_to_self _timer_handle_cancelled _core_registered _core_descriptors _core_close _core_embed",
    Handle="cancel cancelled get_context _run __repr__",
    TimerHandle="when",
    StreamCore="write writelines set_protocol get_protocol pause_reading resume_reading is_reading is_closing get_write_buffer_size "
    "get_extra_info _flush _begin _start_reading _stop_reading _clear_queue _maybe_pause_protocol _drop",
    module="make_stream_core running_loop_getter" if sys.version_info < (3, 12) else "make_stream_core",
)  # fmt: skip


def handles(loop: Any, token: Token) -> Iterator[Callable[[], object]]:
    """What a loop is asked for, and the fields of what it gives."""
    context = copy_context()
    here, there = socket.socketpair()

    def schedule() -> None:
        for handle in (
            loop.call_soon(nothing, token),
            loop.call_soon(nothing, token, context=context),
            loop.call_soon_threadsafe(nothing, token),
            loop.call_at(0, nothing, token),
            loop.call_later(100, nothing, token, token, token, token),
        ):
            repr(handle), handle.get_context(), handle.cancelled()
            for field in ("_callback", "_args", "_context", "_loop", "_source_traceback", "_cancelled"):
                getattr(handle, field)
            getattr(handle, "when", int)(), getattr(handle, "_scheduled", 0), getattr(handle, "_when", 0)
            handle._run()
            handle.cancel()
            handle.cancel()
        for wrong in (
            lambda: loop.call_soon(),
            lambda: loop.call_at("x", nothing),
            lambda: loop.call_later(1, nothing, wrong=token),
        ):
            with contextlib.suppress(TypeError):
                wrong()
        timer = loop.call_later(100, nothing, token)
        loop._timer_handle_cancelled(timer)
        timer.cancel()
        loop._add_callback(asyncio.Handle(nothing, (token,), loop)) if not loop.get_debug() else None
        loop.time(), loop.create_future(), loop._write_to_self()
        loop.stop()
        loop.run_forever()

    def watch() -> None:
        for fd in (here.fileno(), there.fileno()):
            loop._add_reader(fd, nothing, token)
            loop._add_reader(fd, nothing, token)
            loop._add_writer(fd, nothing, token)
        assert loop._core_registered(here) == 3 and here.fileno() in loop._core_descriptors()
        for fd in (here.fileno(), there.fileno()):
            loop._remove_reader(fd)
            loop._remove_writer(fd)
            loop._remove_writer(fd)
        for wrong in (-1, token, 1 << 40):
            with contextlib.suppress(ValueError, OSError, OverflowError):
                loop._add_reader(wrong, nothing, token)

    def fields() -> None:
        for name in ("_stopping", "_debug", "_closed", "_thread_id", "_ready", "_scheduled", "_core_future_type"):
            value = getattr(loop, name)
            if name not in ("_ready", "_scheduled"):
                setattr(loop, name, value)

    yield schedule
    yield watch
    yield fields
    here.close()
    there.close()


def test_calls_on_the_loop() -> None:
    token, loop = Token(), new_event_loop()
    try:
        for call in handles(loop, token):
            measure(call, token, ROUNDS // 4)
    finally:
        loop.close()


def test_loops_and_what_they_hold() -> None:
    """Made, given things to keep, and closed with them."""
    token = Token()

    def call() -> None:
        loop = new_event_loop()
        loop.call_soon(nothing, token)
        loop.call_later(100, nothing, token)
        loop.close()

    measure(call, token, 300)


def test_calls_on_transports() -> None:
    from bateau.runtimes import native_transport as module

    token = Token()
    core = module._StreamCore

    class Plain(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.token = token

    async def one() -> None:
        loop: Any = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.setblocking(False)
        transport, protocol = await loop.create_connection(Plain, sock=here)
        assert transport.get_protocol() is protocol
        for data in (b"1", bytearray(b"2"), memoryview(b"3"), bytes(300_000)):
            transport.write(data)
        transport.writelines([b"4", b"5"])
        transport.write(b"held")
        transport._flush()
        transport.write(b"held")
        assert transport.get_extra_info("socket") is not None
        assert transport.get_extra_info(name="none", default=token) is token
        with contextlib.suppress(TypeError):
            transport.get_extra_info([])
        if sys.version_info < (3, 12):
            assert native.running_loop_getter(lambda: token)() is loop
        for wrong in (lambda: transport.write(token), lambda: transport.writelines(token), lambda: transport.writelines([token]),
                      lambda: transport._begin(loop, here, 1, protocol), lambda: transport.set_protocol()):  # fmt: skip
            with contextlib.suppress(TypeError, RuntimeError):
                wrong()
        (
            transport.pause_reading(),
            transport.resume_reading(),
            transport._start_reading(),
            transport._maybe_pause_protocol(),
        )
        transport.is_reading(), transport.is_closing(), transport.get_write_buffer_size()
        transport.set_protocol(protocol)
        there.send(b"x")
        await protocol.until(lambda: protocol.data)
        for name, field in vars(core).items():
            if type(field).__name__ in ("member_descriptor", "getset_descriptor"):
                value = getattr(transport, name)
                with contextlib.suppress(AttributeError, TypeError):
                    setattr(transport, name, value)
        transport._stop_reading(), transport._clear_queue()
        transport.abort()
        await protocol.lost
        there.close()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        measure(lambda: runner.run(one()), token, 500)
    if sys.version_info < (3, 12):
        measure(lambda: native.running_loop_getter(lambda: token)(), token)
    base = type("Base", (), {})
    measure(lambda: native.make_stream_core(asyncio.transports._FlowControlMixin, asyncio.BufferedProtocol), token, 50)
    with contextlib.suppress(TypeError):
        native.make_stream_core(base)
