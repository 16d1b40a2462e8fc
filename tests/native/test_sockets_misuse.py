"""Misuse of streams, buffered readers and their operations is an exception and no crash of the C part. Each case is a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from bateau.kernel import twin

pytestmark = pytest.mark.skipif(twin.native is None, reason="the kernel is pure here")


MISUSES = {
    "the fields of an operation set to the wrong things": """
        for field in ("stream", "side", "resource", "task", "value"):
            ours, theirs = unix.pair()
            read = ours.read(10)
            setattr(read, field, 5)
            try:
                with bateau.move_on_after(0.001):
                    await read
            except Exception as error:
                print(type(error).__name__)
            ours.close(); theirs.close()
    """,
    "the buffer that is read into set to the wrong things, and released": """
        for change in ("None", "5", "b'abc'", "memoryview(b'abc')", "bytearray()", "released"):
            ours, theirs = unix.pair()
            view = memoryview(bytearray(10))
            read = ours.readinto(view)
            async def reader():
                try:
                    print(await read)
                except (ValueError, TypeError, BufferError, AssertionError) as error:
                    print(type(error).__name__)
            async with bateau.scope() as scope:
                scope.spawn(reader)
                await bateau.yield_now()
                if change == "released":
                    view.release()
                else:
                    read.buffer = eval(change)
                await theirs.write(b"x")
            ours.close(); theirs.close()
    """,
    "the numbers of a read and a write set beyond what they have": """
        for field, value in (("total", 10_000_000), ("sent", -60_000), ("n", -1), ("n", -(1 << 62))):
            ours, theirs = unix.pair()
            operation = ours.read() if field == "n" else ours.write(b"abc")
            setattr(operation, field, value)
            await theirs.write(b"x" * 100_000)
            try:
                await operation
            except (ValueError, SystemError) as error:
                print(type(error).__name__)
            else:
                raise AssertionError(field)
            ours.close(); theirs.close()
    """,
    "an attempt that fails while it waits": """
        ours, theirs = unix.pair()
        read = ours.read(1 << 20)
        async def reader():
            try:
                await read
            except (ValueError, OverflowError, MemoryError, SystemError) as error:
                print(type(error).__name__)
        async with bateau.scope() as scope:
            scope.spawn(reader)
            await bateau.yield_now()
            read.n = -1  # what comes next is no bytes
            await theirs.write(b"x")
        assert await ours.read() == b"x"  # the place is free again
        ours.close(); theirs.close()
    """,
    "a watch for a number that no process has": """
        from bateau.kernel.current import current_task
        try:
            current_task().host.add_reader((1 << 31) - 1, print)
        except OSError as error:
            print(error.errno)
        else:
            raise AssertionError
    """,
    "the fields of a reader set to the wrong things": """
        for field, value in (("_data", 5), ("_data", None), ("_pos", -7), ("_pos", 1 << 20), ("_slot", 3), ("raw", None)):
            ours, theirs = unix.pair()
            reader = BufReader(ours)
            await theirs.write(b"x\\n")
            setattr(reader, field, value)
            try:
                with bateau.move_on_after(0.01):
                    await reader.readline()
            except Exception as error:
                print(type(error).__name__)
            ours.close(); theirs.close()
    """,
    "the fields of a writer set to the wrong things": """
        from bateau.io import BufWriter
        for field, value in (("_buffer", 5), ("_buffer", None), ("_buffer", b"x"), ("_size", -1), ("_slot", 3), ("raw", None), ("raw", 5)):
            ours, theirs = unix.pair()
            writer = BufWriter(ours)
            for call in (lambda: writer.write(b"x"), writer.flush):
                await writer.write(b"y")
                kept = writer._buffer
                setattr(writer, field, value)
                try:
                    await call()
                except Exception as error:
                    print(type(error).__name__)
                writer._buffer = kept
                if field != "raw":
                    break
            writer._buffer = bytearray()
            ours.close(); theirs.close()
    """,
    "a stream below that lies about what it took, and changes the writer meanwhile": """
        from bateau.io import BufWriter
        class Below:
            closed = False
            def __init__(self, gives): self.gives = gives
            flush = bateau.io.AsyncWrite.flush
            def describe(self): return "below"
            def try_write(self, data):
                writer._buffer, writer.raw = bytearray(b"new"), None
                return self.gives
        for gives in (-1, 10**6, 1 << 80, None, "x", 2):
            writer = BufWriter(Below(gives))
            await writer.write(b"abc")
            try:
                await writer.flush()
            except BaseException as error:
                print(type(error).__name__)
            writer._buffer = bytearray()
    """,
    "a stream below that hands out what is no bytes, and changes the reader meanwhile": """
        class Below:
            closed = False
            def __init__(self, gives): self.gives = gives
            def read(self, n):
                reader._data, reader._pos = b"", 0
                return self.gives
        async def of(value):
            return value
        for gives in (5, None, of(5), of("text"), of([1, 2]), of(memoryview(b"ab"))):
            reader = BufReader(Below(gives))
            try:
                await reader.readexactly(2)
            except BaseException as error:
                print(type(error).__name__)
    """,
    "a descriptor closed behind its stream's back": """
        ours, theirs = unix.pair()
        os.close(ours.fileno())
        for call in (lambda: ours.read(), lambda: ours.write(b"x"), lambda: ours.readinto(bytearray(3))):
            try:
                await call()
            except OSError as error:
                print(type(error).__name__, error.errno)
        try:
            ours.close()
        except OSError as error:
            print("close", error.errno)
        theirs.close()
    """,
    "a stream closed by the one who is woken with it": """
        ours, theirs = unix.pair()
        async def read():
            await ours.read()
            ours.close()
        async with bateau.scope() as scope:
            scope.spawn(read)
            await bateau.yield_now()
            await theirs.write(b"x")
        theirs.close()
    """,
    "the fields of a listener and of an accept set to the wrong things": """
        import socket
        from bateau import net
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            for field in ("limit", "_stream_type", "_watches", "_sides", "_kinds", "_plain", "_first", "_open"):
                for value in (5, None, (), (1, 2), ("x",), -3, str, "text"):
                    kept = getattr(listener, field)
                    try:
                        setattr(listener, field, value)
                        with bateau.move_on_after(0.001):
                            with socket.create_connection(("127.0.0.1", port)) if (port := listener._socks[0].getsockname()[1]) else None:
                                (await listener.accept()).close()
                    except Exception as error:
                        print(field, type(error).__name__)
                    setattr(listener, field, kept)
            for field in ("listener", "side", "sides", "resource", "full", "short", "timer", "task"):
                for value in (5, None, True, ()):
                    accept = listener.accept()
                    try:
                        setattr(accept, field, value)
                        with bateau.move_on_after(0.001):
                            (await accept).close()
                    except Exception as error:
                        print(field, type(error).__name__)
            while True:  # what was let go of half made was closed, and the rest is accepted
                try:
                    listener.try_accept().close()
                except bateau.WouldBlock:
                    break
            with socket.create_connection(("127.0.0.1", port)) as client:
                async with await listener.accept() as stream:
                    await stream.write(b"x")
                assert client.recv(1) == b"x"
    """,
    "the fields of a connect set to the wrong things": """
        from bateau import net
        from bateau.net._tcp import connect_one
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            (row,) = await net.resolve("127.0.0.1", listener.port)
            for field in ("row", "stream_type", "one", "nodelay", "side", "resource"):
                for value in (5, None, True, (), row[:4], (1, 2, 3, 4, 5), str, row._replace(sockaddr=("x" * 300, 1))):
                    connect = connect_one("it", row, net.SocketStream, True)
                    try:
                        setattr(connect, field, value)
                        with bateau.move_on_after(0.01):
                            (await connect).close()
                    except Exception as error:
                        print(field, type(error).__name__)
            (await connect_one("it", row, net.SocketStream, True)).close()
    """,
    "a listener closed by the class of the streams that it makes": """
        import socket
        from bateau import net
        class Closing(net.SocketStream):
            _kind = property(lambda self: 5)
            def __del__(self):
                listener.close()
                super().__del__()
        listener = net.Listener([socket.create_server(("127.0.0.1", 0))], stream_type=Closing)
        with socket.create_connection(listener.getsockname()):
            try:
                await listener.accept()
            except Exception as error:
                print(type(error).__name__)
        listener.close()
    """,
    "a read that is resumed by what it waits for": """
        class Below:
            closed = False
            async def read(self, n):
                try:
                    call.send(None)
                except BaseException as error:
                    print(type(error).__name__)
                return b"x\\n"
        for name in ("readline", "read"):
            reader = BufReader(Below())
            call = getattr(reader, name)()
            try:
                await call
            except BaseException as error:
                print(type(error).__name__)
            assert reader._slot.task is None
    """,
    "a table of callables that changes while it is called and looked through": """
        from bateau._native import FdTable
        table = FdTable()
        class Gone:
            def __del__(self):
                table.clear()
        for fd in range(3):
            table[fd] = Gone().__init__
        table[0] = print
        for fd, call in table.items():
            table.clear()
        for key in (-1, 1 << 40, "x", None, 2.0):
            try:
                table[key] = print
            except (ValueError, TypeError, OSError) as error:
                print(type(error).__name__)
            else:
                raise AssertionError(key)
        table[1] = table.pop  # part of a cycle
    """,
    "an exception thrown in, a wait closed, in every phase": """
        ours, theirs = unix.pair()
        for make in (lambda: ours.read(), lambda: BufReader(ours).readline(), lambda: BufReader(ours).readexactly(3)):
            for act in ("throw", "close"):
                for steps in (0, 1):
                    wait = make().__await__()
                    for _ in range(steps):
                        next(wait)
                    try:
                        wait.throw(KeyError("here")) if act == "throw" else wait.close()
                    except KeyError:
                        print("KeyError")
                    try:
                        next(wait)
                    except (StopIteration, RuntimeError):
                        pass
        await theirs.write(b"still works\\n")
        assert await BufReader(ours).readline() == b"still works\\n"
        ours.close(); theirs.close()
    """,
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_an_exception_and_no_crash(name):
    body = textwrap.indent(textwrap.dedent(MISUSES[name]), "    ")
    program = (
        "import os, faulthandler\nfaulthandler.enable()\nimport bateau\nfrom bateau.io import BufReader\n"
        f"from bateau.net import unix\nasync def main():\n{body}\nbateau.run(main, runtime='native')\nprint('whole')\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("whole\n"), done.stderr
