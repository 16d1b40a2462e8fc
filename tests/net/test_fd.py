"""The readiness layer under sockets and pipes: waits, closing, registrations that outlive a wait."""

from __future__ import annotations

import os
import random
import socket
import threading
from functools import partial, wraps

import pytest

import bateau
from bateau import net
from bateau.io.fd import FdWatch
from bateau.runtimes.native import Reactor
from support.entries import on_native
from support.waiting import until


@pytest.fixture
def pipe():
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    yield ends
    for end in ends:
        os.close(end)


def test_readable_and_writable(entry, pipe):
    reading, writing = pipe

    async def main():
        reader, writer = FdWatch(reading), FdWatch(writing, label="the pipe")
        await writer.writable()
        async with bateau.scope() as scope:
            waits = [scope.spawn(reader.readable) for _ in range(3)]  # several may wait
            await bateau.yield_now()
            assert not any(wait.done for wait in waits)
            os.write(writing, b"x")
        await reader.readable()  # at once
        os.read(reading, 10)
        filled = 0
        try:
            while True:
                filled += os.write(writing, bytes(4096))
        except BlockingIOError:
            pass
        async with bateau.scope() as scope:
            wait = scope.spawn(writer.writable)
            await bateau.yield_now()
            assert not wait.done
            assert "the pipe" in repr(writer)
            while filled:
                filled -= len(os.read(reading, 65536))
        reader.close()
        writer.close()

    entry.run(main)


def test_close_wakes_and_refuses(entry, pipe):
    async def main():
        watch = FdWatch(pipe[0])

        async def wait():
            with pytest.raises(bateau.Closed, match="is closed"):
                await watch.readable()

        async with bateau.scope() as scope:
            scope.spawn(wait)
            scope.spawn(wait)
            await bateau.yield_now()
            await bateau.yield_now()
            watch.close()
        watch.close()
        with pytest.raises(bateau.Closed):
            await watch.readable()
        os.fstat(pipe[0])  # the fd is its owner's to close

    entry.run(main)


def test_regular_files_are_always_ready(entry, tmp_path):
    async def main():
        with open(tmp_path / "file", "wb+") as file:
            watch = FdWatch(file.fileno())
            await watch.readable()
            await watch.writable()
            watch.close()

    entry.run(main)


def test_bad_descriptors():
    with pytest.raises(ValueError, match="closed"):
        FdWatch(-1)


def test_a_descriptor_closed_behind_our_back(entry):
    async def main():
        reading, writing = os.pipe()
        watch = FdWatch(reading)
        os.close(reading)
        os.close(writing)
        with pytest.raises(bateau.Closed, match="behind bateau's back"):
            await watch.readable()
        watch.close()

    entry.run(main)


def test_cancelled_waits_leave_nobody_behind(entry, pipe):
    async def main():
        watch = FdWatch(pipe[0])
        for _ in range(3):
            with bateau.move_on_after(0.005) as timer:
                await watch.readable()
            assert timer.cancelled_caught
            assert watch.waiters() == ()
        os.write(pipe[1], b"x")
        await watch.readable()
        os.read(pipe[0], 1)
        watch.close()

    entry.run(main)


@pytest.mark.law(5)
@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_what_comes_between_a_hint_and_the_next_attempt(entry, how):
    """The hint turns out to be wrong, and nothing is parked when the cancellation (or stop) comes: it must not be lost."""

    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            ended = []
            async with bateau.scope(timeout=20) as scope:

                async def accept():
                    try:
                        await listener.accept()
                    except bateau.Stopped:
                        ended.append("stop")
                    except bateau.Cancelled:
                        ended.append("cancel")
                        raise

                task = scope.spawn(accept, name="acceptor")
                await until(lambda: task.waiting is not None)
                listener._watches[0].reading.ready()  # an event, after which there is nothing to accept
                if how == "cancel":
                    scope.cancel()
                else:
                    scope.stop()
            assert ended == [how]

    entry.run(main)


def test_closing_from_a_foreign_thread_is_refused(entry, pipe):
    async def main():
        watch = FdWatch(pipe[0])
        async with bateau.scope() as scope:
            scope.spawn(watch.readable)
            await bateau.yield_now()
            await bateau.yield_now()
            caught = []

            def close():
                try:
                    watch.close()
                except bateau.WrongRuntime as error:
                    caught.append(error)

            thread = threading.Thread(target=close)
            thread.start()
            thread.join()
            assert "thread" in str(caught[0])
            os.write(pipe[1], b"x")
        watch.close()

    entry.run(main)


@pytest.mark.law(16)
def test_a_wait_names_its_resource(entry, pipe):
    async def main():
        watch = FdWatch(pipe[0], label=lambda: "the input")
        async with bateau.scope() as scope:
            task = scope.spawn(watch.readable)
            await bateau.yield_now()
            await bateau.yield_now()
            assert task.waiting.describe() == "readability of the input"
            assert list(watch.waiters()) == [task.waiting]
            assert watch.satisfiers() == "outside"
            scope.cancel()
        watch.close()

    entry.run(main)


@on_native
@pytest.mark.law(10)
def test_a_loop_of_reads_registers_once(entry, pipe):
    """Each wait finds the registration of the one before it."""

    async def main():
        host = bateau.current_task().host
        calls = []
        watch_fd = host.reactor.watch

        def counting(*args):
            calls.append(args)
            watch_fd(*args)

        host.reactor.watch = counting
        watch = FdWatch(pipe[0])
        async with bateau.scope() as scope:

            async def reader():
                for _ in range(10):
                    await watch.readable()
                    os.read(pipe[0], 1)

            scope.spawn(reader)
            for _ in range(10):
                await bateau.time.sleep(0.002)
                os.write(pipe[1], b"x")
        assert len(calls) == 1
        watch.close()
        assert pipe[0] not in host.reactor._readers

    entry.run(main)


@on_native
@pytest.mark.law(17)
def test_an_idle_connection_does_not_hide_a_deadlock(entry, pipe):
    async def main():
        watch = FdWatch(pipe[0])
        with bateau.move_on_after(0.001):
            await watch.readable()  # it stays registered
        try:
            await bateau.sync.Event().wait()
        finally:
            watch.close()

    with pytest.raises(bateau.Deadlock):
        entry.run(main)


@on_native
@pytest.mark.law(10)
def test_an_event_for_nobody_takes_the_registration_out(entry, pipe):
    async def main():
        host = bateau.current_task().host
        watch = FdWatch(pipe[0])
        with bateau.move_on_after(0.001):
            await watch.readable()
        assert pipe[0] in host.reactor._readers
        os.write(pipe[1], b"x")
        await bateau.time.sleep(0.01)
        assert pipe[0] not in host.reactor._readers
        await watch.readable()
        os.read(pipe[0], 1)
        watch.close()

    entry.run(main)


@on_native
@pytest.mark.law(10)
def test_a_number_that_is_anothers_now_does_not_wake_who_waits_for_the_old_one(entry):
    """Closed behind our back, its number given to a new socket: the old waiter is told, the new one gets its own data."""

    async def main():
        old, old_peer = net.unix.pair()
        fresh, fresh_peer = socket.socketpair()
        told = []

        async def wait_for_the_old():
            try:
                await old.read()
            except bateau.Closed as error:
                told.append(str(error))

        async with bateau.scope() as scope:
            scope.spawn(wait_for_the_old)
            await bateau.yield_now()
            number = old.fileno()
            os.dup2(fresh.fileno(), number)  # closes what was there
            fresh.close()
            new = net.from_socket(socket.socket(fileno=number))
            wait = scope.spawn(new.read)
            await bateau.yield_now()
            fresh_peer.send(b"new")
            assert await wait == b"new"
        assert "behind bateau's back" in told[0]
        with pytest.raises(bateau.Closed):
            await old.read()  # no attempt at the stranger's
        fresh_peer.send(b"more")
        assert await new.read() == b"more"
        old._sock.detach()  # it has nothing to close any more: that is the new one's
        old.close()
        assert await new.write(b"still open") is None
        assert fresh_peer.recv(20) == b"still open"
        await new.aclose()
        await old_peer.aclose()
        fresh_peer.close()

    entry.run(main)


@on_native
@pytest.mark.law(10)
def test_events_of_a_descriptor_that_can_not_be_taken_out_end(entry):
    """Closed behind our back while a duplicate lives on: epoll reports it for ever, under a number that means nothing."""

    async def main():
        reactor = bateau.current_task().host.reactor
        reading, writing = os.pipe()
        watch = FdWatch(reading)
        with bateau.move_on_after(0.001):
            await watch.readable()
        duplicate = os.dup(reading)
        os.close(reading)
        watch.close()
        os.write(writing, b"x")
        first = reactor._epoll
        for _ in range(10_000):
            if reactor._epoll is not first:
                break
            await bateau.time.sleep(0.0001)
        else:
            raise AssertionError("its events go on")
        ours, theirs = net.unix.pair()
        async with ours, theirs, bateau.scope() as scope:
            wait = scope.spawn(ours.read)
            await bateau.yield_now()
            await theirs.write(b"hello")
            assert await wait == b"hello"
        os.close(duplicate)
        os.close(writing)

    entry.run(main)


@on_native
def test_a_wait_that_is_closed_by_another_task_names_what_was_closed(entry):
    async def main():
        ours, theirs = net.unix.pair()
        failures = []

        async def wait(call):
            try:
                await call()
            except bateau.Closed as error:
                failures.append(str(error))

        async with bateau.scope() as scope:
            scope.spawn(wait, ours.read)
            scope.spawn(wait, lambda: ours.write(bytes(10_000_000)))
            await bateau.yield_now()
            ours.close()
        assert len(failures) == 2
        assert all("Unix stream" in text and "closed" in text for text in failures)
        ours.close()  # once more changes nothing
        await theirs.aclose()

    entry.run(main)


class Failing(socket.socket):
    """A socket that lacks memory while ``fails`` is set."""

    fails = False

    def check(self):
        if self.fails:
            raise MemoryError("no room for what was read")

    def recv(self, *args):
        self.check()
        return super().recv(*args)

    def recv_into(self, *args):
        self.check()
        return super().recv_into(*args)

    def recvmsg(self, *args):
        self.check()
        return super().recvmsg(*args)


@pytest.mark.law(9)
@pytest.mark.parametrize("how", ["read", "readinto", "recv_fds"])
def test_an_attempt_that_fails_after_a_wait_gives_the_readers_place_back(entry, how):
    async def main():
        ours, peer = socket.socketpair()
        failing = Failing(fileno=ours.detach())
        stream = net.unix.UnixStream(failing)
        make = {
            "read": lambda: stream.read(10),
            "readinto": lambda: stream.readinto(bytearray(10)),
            "recv_fds": lambda: stream.recv_fds(10, 1),
        }[how]
        failed = []

        async def read():
            try:
                await make()
            except MemoryError:
                failed.append(how)

        async with bateau.scope() as scope:
            scope.spawn(read)
            await until(lambda: stream._watch.reading.waiters or stream._watch.reading.in_host)
            failing.fails = True
            peer.send(b"x")
        assert failed == [how] and stream._reader is None
        failing.fails = False
        assert await stream.read() == b"x"
        stream.close()
        peer.close()

    entry.run(main)


# -- the reactor itself ------------------------------------------------------------------------------------------------------


def with_reactor(test):
    """Call ``test`` with a reactor of its own, which is closed after it."""

    @wraps(test)
    def run():
        reactor = Reactor()
        try:
            test(reactor)
        finally:
            reactor.close()

    del run.__wrapped__  # pytest would take the argument for a fixture's name
    return run


@pytest.mark.law(10)
@with_reactor
def test_an_event_of_a_number_that_was_given_away_meanwhile_is_not_its_new_owners(reactor):
    """Two descriptors are ready in one look; who is called first closes the other one, whose number another gets."""
    pairs = [socket.socketpair() for _ in range(2)]
    fresh, fresh_peer = socket.socketpair()
    numbers = [one.fileno() for one, _ in pairs]
    called = []

    def be_first(mine):
        called.append("first")
        reactor.unwatch(reactor._readers, numbers[mine])
        other = numbers[1 - mine]
        reactor.unwatch(reactor._readers, other)
        os.dup2(fresh.fileno(), other)  # closes what was there
        reactor.watch(reactor._readers, other, lambda: called.append("new"))

    for mine in range(2):
        pairs[mine][1].send(b"x")
        reactor.watch(reactor._readers, numbers[mine], partial(be_first, mine))
    reactor.poll(0)
    assert called == ["first"]
    fresh_peer.send(b"x")
    reactor.poll(0)
    assert called.count("new") == 1
    for one in (fresh, fresh_peer, *pairs[0], *pairs[1]):
        one.close()


@pytest.mark.law(10)
@with_reactor
def test_who_reads_may_give_the_number_away_before_who_writes_is_called(reactor):
    """One event says both: the reader's call closes the descriptor, and its number's new owner waits to write, and can't yet."""
    ours, theirs = socket.socketpair()
    full, empty = socket.socketpair()
    full.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            full.send(b"x" * 65536)
    number = ours.fileno()
    called = []

    def read():
        called.append("read")
        reactor.unwatch(reactor._readers, number)
        reactor.unwatch(reactor._writers, number)
        os.dup2(full.fileno(), number)
        reactor.watch(reactor._writers, number, lambda: called.append("new"))

    theirs.send(b"x")
    reactor.watch(reactor._readers, number, read)
    reactor.watch(reactor._writers, number, lambda: called.append("write"))
    reactor.poll(0)
    assert called == ["read"]
    for one in (ours, theirs, full, empty):
        one.close()


@with_reactor
def test_a_poll_of_no_number_of_seconds_is_refused(reactor):
    with pytest.raises(ValueError, match="NaN"):
        reactor.poll(float("nan"))


@with_reactor
def test_what_to_call_is_kept_as_in_a_dictionary(reactor):
    """The twin's table, where there is one, by the operations that are used of it."""
    ends = [end for _ in range(40) for end in os.pipe()]
    model = {}
    table = reactor._readers
    dice = random.Random(7)
    for step in range(3000):
        fd = dice.choice(ends)
        match dice.randrange(5):
            case 0 | 1:
                model[fd] = table[fd] = partial(print, step)
            case 2:
                assert table.pop(fd, None) is model.pop(fd, None)
            case 3:
                assert table.get(fd) is model.get(fd) and (fd in table) == (fd in model)
            case _ if fd in model:
                assert table[fd] is model[fd]
                del table[fd], model[fd]
            case _:
                with pytest.raises(KeyError):
                    table[fd]
        assert len(table) == len(model)
    assert dict(table.items()) == {**table} == model and set(table) == set(model)
    assert -1 not in table and table.get(10**30) is None
    table.clear()
    assert not table and not list(table)
    for end in ends:
        os.close(end)
