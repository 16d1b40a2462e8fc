"""What lies between hosts: delays, bandwidth, cuts, resets, peers that are gone, names; and every fault by probability."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bateau
from bateau import net, sim
from bateau.sim import Faults, Latency

FIXED = Latency(0.01, 0.01, 0)  # 10 ms, always


def run(scenario, **options):
    return sim.run(scenario, latency=FIXED, **options)


def run_randomly(scenario, seed=0, **options):
    """With a strategy, without which no fault happens by itself."""
    return sim.run(scenario, seed=seed, strategy="random", latency=FIXED, **options)


def sink(port=80, size=None):
    """A server that takes connections and never reads."""
    listening = socket.socket()
    if size is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    listening.bind(("", port))
    listening.listen()
    held = []
    while True:
        held.append(listening.accept())


def echo(port=80):
    with socket.create_server(("", port)) as listening:
        while True:
            sock, _ = listening.accept()
            with sock:
                try:
                    while data := sock.recv(65536):
                        sock.sendall(data)
                except OSError:
                    continue


async def async_echo(port=80):
    async def handler(stream):
        while data := await stream.read():
            await stream.write(data)

    await net.serve(handler, await net.listen_tcp(None, port), on_error=lambda error, stream: None)


def started(world, program=echo, name="server", *args):
    host = world.host(name)
    host.start(program, *args)
    time.sleep(0.001)
    return host


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_connect_takes_a_round_and_data_one_way():
    def scenario(world):
        started(world)
        begin = world.now
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            assert world.now - begin == pytest.approx(0.02)
            begin = world.now
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            assert world.now - begin == pytest.approx(0.02)

    run(scenario)


def test_the_latency_of_a_link_may_be_set_for_one_direction():
    def scenario(world):
        started(world)
        world.link("test", "server", latency=Latency(1, 1, 0), one_way=True)
        world.link("server", "test", latency=0.5, one_way=True)
        begin = world.now
        socket.create_connection(("10.0.0.2", 80)).close()
        assert world.now - begin == pytest.approx(1.5)

    run(scenario)


def test_a_host_to_itself_takes_no_time():
    def scenario(world):
        with socket.create_server(("", 0)) as listening:
            for name in ("localhost", "127.0.0.1", "test", world.hosts["test"].addresses[0]):
                socket.create_connection((name, listening.getsockname()[1])).close()
        assert world.now == 0

    run(scenario)


def test_bandwidth():
    def scenario(world):
        started(world, echo)
        world.link("test", "server", bandwidth=1_000_000, one_way=True)

        def send():
            with socket.create_connection(("10.0.0.2", 80)) as sock:
                begin = world.now
                total = 0
                for _ in range(20):
                    sock.sendall(bytes(50_000))
                    while total < 50_000:
                        total += len(sock.recv(65536))
                    total -= 50_000
                return world.now - begin

        took = send()
        assert 1.0 <= took < 1.6  # a megabyte at a megabyte per second, and twenty rounds

    run(scenario)


def test_datagrams_share_the_bandwidth():
    def scenario(world):
        receiver = world.host("server")

        def receive():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("", 9))
                sizes = [len(sock.recv(65536)) for _ in range(5)]
                return sizes, world.now

        process = receiver.start(receive)
        time.sleep(0.001)
        world.link("test", "server", bandwidth=10_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for size in (1000, 2000, 3000, 4000, 0):
                sock.sendto(bytes(size), ("10.0.0.2", 9))
        time.sleep(5)
        sizes, when = process.handle._value
        assert sizes == [1000, 2000, 3000, 4000, 0]
        assert when == pytest.approx(1.0 + 5 * 28 / 10_000 + 0.01 + 0.001, abs=0.001)

    run(scenario)


# -- slow readers ------------------------------------------------------------------------------------------------------


def test_a_peer_that_does_not_read_stops_its_sender():
    def scenario(world):
        started(world, sink)
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            sock.settimeout(10)
            with pytest.raises(TimeoutError):
                sock.sendall(bytes(10_000_000))
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.send(b"x")
            assert select.select([], [sock], [], 5)[1] == []

    run(scenario)


def test_buffers_are_as_large_as_was_asked():
    def scenario(world):
        started(world, sink, "server", 80, 4096)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            sock.connect(("10.0.0.2", 80))
            sock.setblocking(False)
            sent = 0
            for _ in range(100):
                try:
                    sent += sock.send(bytes(1000))
                except BlockingIOError:
                    time.sleep(0.1)
            assert 2 * 8192 + 4096 <= sent <= 2 * 8192 + 2 * 4096

    run(scenario)


def test_a_slow_reader_slows_its_sender_down_and_loses_nothing():
    def scenario(world):
        def slow():
            with socket.create_server(("", 80)) as listening:
                sock, _ = listening.accept()
                with sock:
                    total = 0
                    while data := sock.recv(50_000):
                        total += len(data)
                        time.sleep(0.1)
                    return total

        process = started(world, slow).processes[0]
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            sock.sendall(bytes(2_000_000))
        assert 2 < world.now < 6
        time.sleep(60)
        assert process.handle._value == 2_000_000

    run(scenario)


# -- connects that lead nowhere ----------------------------------------------------------------------------------------


def outcome(call, *args):
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno] if error.errno else str(error)
    return "ok"


def test_nobody_listens():
    def scenario(world):
        world.host("server")
        with socket.socket() as sock:
            assert outcome(sock.connect, ("10.0.0.2", 80)) == "ECONNREFUSED"
        assert world.now == pytest.approx(0.02)

    run(scenario)


def test_nobody_is_there():
    def scenario(world):
        with socket.socket() as sock:
            assert outcome(sock.connect, ("10.9.9.9", 80)) == "ETIMEDOUT"
        assert world.now == 127
        with socket.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
            assert outcome(sock.connect, ("10.9.9.9", 80)) == "ETIMEDOUT"
        assert world.now == 132
        with socket.socket(socket.AF_INET6) as sock:
            assert outcome(sock.connect, ("fd00::1", 80)) == "ENETUNREACH"

    run(scenario)


def test_a_cut_during_the_connect():
    def scenario(world):
        started(world)
        begin = world.now
        world.partition("test", "server")
        world.after(5, world.heal)
        with socket.socket() as sock:
            assert outcome(sock.connect, ("10.0.0.2", 80)) == "ok"
        assert world.now - begin == pytest.approx(7.02)  # the SYNs go out after 0, 1, 3, 7 seconds

    run(scenario)


def test_the_answer_to_a_connect_is_cut_off():
    def scenario(world):
        started(world)
        world.partition("server", "test", one_way=True)
        with socket.socket() as sock:
            sock.settimeout(20)
            assert outcome(sock.connect, ("10.0.0.2", 80)) == "timed out"
        world.heal()
        assert outcome(lambda: socket.create_connection(("10.0.0.2", 80)).close()) == "ok"

    run(scenario)


def test_a_full_backlog_makes_clients_try_again():
    def scenario(world):
        def lazy():
            with socket.socket() as listening:
                listening.bind(("", 80))
                listening.listen(1)
                time.sleep(10)
                accepted = [listening.accept()[0] for _ in range(4)]
                for sock in accepted:
                    sock.close()

        started(world, lazy)
        begin = world.now
        socks = [socket.socket() for _ in range(4)]
        for sock in socks:
            sock.setblocking(False)
            assert sock.connect_ex(("10.0.0.2", 80)) == errno.EINPROGRESS
        when = []
        left = list(socks)
        while left:
            for sock in select.select([], left, [])[1]:
                left.remove(sock)
                when.append(round(world.now - begin, 2))
        for sock in socks:
            sock.close()
        assert when == [0.02, 0.02, 15.02, 15.02]

    run(scenario)


def test_a_client_that_gives_up_is_not_accepted():
    def scenario(world):
        def serve():
            with socket.create_server(("", 80)) as listening:
                time.sleep(1)
                listening.settimeout(1)
                with pytest.raises(TimeoutError):
                    listening.accept()
                return "nobody"

        process = started(world, serve).processes[0]
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("10.0.0.2", 80))
        time.sleep(0.015)  # the SYN has arrived, its answer has not
        sock.close()
        time.sleep(5)
        assert process.handle._value == "nobody"

    run(scenario)


# -- cuts --------------------------------------------------------------------------------------------------------------


def test_what_was_sent_during_a_cut_arrives_after_it():
    def scenario(world):
        started(world)
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            begin = world.now
            world.partition("test", "server")
            sock.sendall(b"patience")
            world.after(1, world.heal)
            assert sock.recv(100) == b"patience"
            assert 1.0 < world.now - begin < 2.0  # it is sent again after 0.2, 0.6, 1.4 seconds

    run(scenario)


def test_a_cut_of_the_answers_only():
    def scenario(world):
        started(world)
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            world.partition("server", "test", one_way=True)
            sock.sendall(b"heard")
            sock.settimeout(2)
            assert outcome(sock.recv, 100) == "timed out"
            world.heal("server", "test")
            sock.settimeout(None)
            assert sock.recv(100) == b"heard"

    run(scenario)


def test_a_connection_that_hears_nothing_for_long_is_given_up():
    def scenario(world):
        started(world)
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            world.partition("test", "server")
            begin = world.now
            sock.sendall(b"anybody?")
            assert outcome(sock.recv, 100) == "ETIMEDOUT"
            assert 924 < world.now - begin < 926
            assert outcome(sock.send, b"x") == "EPIPE"
        world.heal()
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000)
            world.partition("test", "server")
            begin = world.now
            sock.sendall(b"anybody?")
            assert outcome(sock.recv, 100) == "ETIMEDOUT"
            assert 3 <= world.now - begin < 3.1

    run(scenario)


def test_a_silent_connection_lives_through_any_cut():
    def scenario(world):
        started(world)
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            time.sleep(0.1)
            world.partition("test", "server")
            time.sleep(100_000)
            world.heal()
            sock.sendall(b"still there")
            assert sock.recv(100) == b"still there"

    run(scenario)


def test_a_cut_in_the_middle_of_the_handshake():
    def scenario(world):
        started(world)
        for seconds in (30, 300):
            with socket.create_connection(("10.0.0.2", 80)) as sock:  # its last part is still on its way
                world.partition("test", "server")
                time.sleep(seconds)
                world.heal()
                time.sleep(50)
                sock.sendall(b"x")
                assert outcome(sock.recv, 1) == ("ok" if seconds == 30 else "ECONNRESET")

    run(scenario)


def test_keepalive_finds_a_dead_path():
    def scenario(world):
        started(world)
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            world.partition("test", "server")
            world.after(70, world.heal)  # in time
            world.after(200, world.partition, "test", "server")
            begin = world.now
            assert outcome(sock.recv, 100) == "ETIMEDOUT"
            assert world.now - begin == pytest.approx(200 + 60 + 3 * 10)

    run(scenario)


def test_isolate_and_heal():
    def scenario(world):
        for name in ("a", "b", "c"):
            started(world, echo, name)

        def reaches(src, dst):
            async def ask():
                with bateau.move_on_after(0.5):
                    async with await net.connect_tcp(dst, 80):
                        return True
                return False

            process = world.hosts[src].start(ask)
            time.sleep(1)
            return process.handle._value

        def all_of():
            return {f"{src}{dst}" for src in "abc" for dst in "abc" if src != dst and reaches(src, dst)}

        assert all_of() == {"ab", "ac", "ba", "bc", "ca", "cb"}
        world.isolate("a")
        assert all_of() == {"bc", "cb"}
        world.heal("a", "b")
        assert all_of() == {"ab", "ba", "bc", "cb"}
        world.heal()
        world.partition(["a", "b"], ["c"])
        assert all_of() == {"ab", "ba"}
        world.heal("c")
        assert len(all_of()) == 6
        with pytest.raises(ValueError, match="both sides"):
            world.partition(["a", "b"], ["b"])
        with pytest.raises(ValueError, match="no host 'd'"):
            world.partition("a", "d")
        with pytest.raises(ValueError, match="bandwidth"):
            world.link("a", "b", bandwidth=0)
        with pytest.raises(ValueError, match="probability"):
            world.link("a", "b", loss=2)
        with pytest.raises(TypeError, match="latency"):
            world.link("a", "b", latency="fast")
        with pytest.raises(TypeError, match="speed"):
            world.link("a", "b", speed=3)

    run(scenario)


# -- peers that are gone -----------------------------------------------------------------------------------------------


def test_a_killed_peer_says_goodbye_and_a_crashed_one_does_not():
    def scenario(world):
        host = started(world, async_echo)
        sock = socket.create_connection(("10.0.0.2", 80))
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        host.processes[0].kill()
        assert sock.recv(1) == b""  # the system closed it
        sock.close()
        host.start(async_echo)
        time.sleep(0.1)
        sock = socket.create_connection(("10.0.0.2", 80))
        host.crash()
        sock.settimeout(1000)
        assert outcome(sock.recv, 1) == "timed out"  # half open: nobody will ever say anything
        begin = world.now
        sock.sendall(b"x")
        assert outcome(sock.recv, 1) == "ETIMEDOUT"
        assert world.now - begin > 900
        sock.close()

    run(scenario)


def test_a_peer_that_came_back_knows_nothing_of_the_connection():
    def scenario(world):
        host = started(world, async_echo)
        sock = socket.create_connection(("10.0.0.2", 80))
        idle = socket.create_connection(("10.0.0.2", 80))
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        host.crash()
        time.sleep(1)
        host.restart()
        time.sleep(1)
        sock.settimeout(5)
        assert outcome(sock.recv, 1) == "timed out"
        sock.sendall(b"x")
        assert outcome(sock.recv, 1) == "ECONNRESET"
        begin = world.now
        assert outcome(idle.recv, 1) == "ECONNRESET"
        assert 7000 < world.now - begin < 7300
        with socket.create_connection(("10.0.0.2", 80)) as again:
            again.sendall(b"y")
            assert again.recv(1) == b"y"
        sock.close()
        idle.close()

    run(scenario)


def test_a_crashed_host_answers_no_connect():
    def scenario(world):
        host = started(world, async_echo)
        host.crash()
        with socket.socket() as sock:
            sock.settimeout(60)
            assert outcome(sock.connect, ("10.0.0.2", 80)) == "timed out"
        world.after(2, host.restart)
        begin = world.now
        socket.create_connection(("10.0.0.2", 80)).close()
        assert world.now - begin == pytest.approx(3.02)

    run(scenario)


def test_what_a_crashed_host_had_sent_still_arrives():
    def scenario(world):
        def talker():
            with socket.create_server(("", 80)) as listening:
                sock, _ = listening.accept()
                sock.sendall(b"last words")
                time.sleep(100)
                sock.close()

        host = started(world, talker)
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            time.sleep(0.011)
            host.crash()
            assert sock.recv(100) == b"last words"

    run(scenario)


def test_a_frozen_peer_is_there_and_says_nothing():
    def scenario(world):
        host = started(world, async_echo)
        with socket.create_connection(("10.0.0.2", 80)) as sock:
            host.freeze()
            sock.settimeout(5)
            sock.sendall(b"x")
            assert outcome(sock.recv, 1) == "timed out"
            host.thaw()
            assert sock.recv(1) == b"x"

    run(scenario)


def test_resets_between_two_hosts():
    async def scenario(world):
        for name in ("a", "b"):
            world.host(name).start(async_echo)
        await bateau.time.sleep(0.01)
        one, two = await net.connect_tcp("a", 80), await net.connect_tcp("b", 80)
        async with one, two:
            assert world.network.reset("test", "a") == 1
            with pytest.raises(bateau.Broken):
                await one.read()
            await two.write(b"x")
            assert await two.read() == b"x"

    run(scenario)


def test_everything_of_a_stopped_process_is_closed_in_order():
    async def scenario(world):
        process = world.host("a").start(async_echo)
        await bateau.time.sleep(0.01)
        async with await net.connect_tcp("a", 80) as stream:
            await stream.write(b"unread")
            process.kill()
            await bateau.time.sleep(1)
            with pytest.raises(bateau.Broken):
                while await stream.read():
                    pass
        with pytest.raises(ConnectionRefusedError):
            await net.connect_tcp("a", 80)

    run(scenario)


# -- names -------------------------------------------------------------------------------------------------------------


def test_names():
    def scenario(world):
        world.host("db", "10.5.0.1", "10.5.0.2", "fd00::5")
        world.network.name("primary.db", "10.5.0.2")
        world.network.name("pool", "db", world.host("other"))
        world.network.name("broken", error=socket.gaierror(socket.EAI_FAIL, "the server is on fire"))

        def addresses(name, family=0):
            return [row[4][0] for row in socket.getaddrinfo(name, 1, family, socket.SOCK_STREAM)]

        assert addresses("db") == ["10.5.0.1", "10.5.0.2", "fd00::5"]
        assert addresses("DB.", socket.AF_INET6) == ["fd00::5"]
        assert addresses("primary.db") == ["10.5.0.2"]
        assert addresses("pool", socket.AF_INET) == ["10.5.0.1", "10.5.0.2", *world.hosts["other"].addresses]
        assert addresses("localhost") == ["::1", "127.0.0.1"]
        assert addresses(socket.gethostname()) == world.hosts["test"].addresses
        assert socket.gethostbyname("db") == "10.5.0.1"
        assert socket.gethostbyname_ex("db") == ("db", [], ["10.5.0.1", "10.5.0.2"])
        assert socket.gethostbyaddr("10.5.0.2") == ("db", [], ["10.5.0.2"])
        assert socket.getfqdn() == "test"
        assert socket.getnameinfo(("10.5.0.2", 443), 0) == ("db", "https")
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert socket.getnameinfo(("fd00::5", 443), numeric) == ("fd00::5", "443")
        assert socket.getservbyname("http") == 80
        assert socket.getservbyport(53, "udp") == "domain"
        assert socket.if_nameindex() == [(1, "lo"), (2, "eth0")]
        with pytest.raises(socket.gaierror, match="not known"):
            addresses("example.com")
        with pytest.raises(socket.gaierror, match="on fire"):
            addresses("broken")
        with pytest.raises(socket.gaierror, match="Address family"):
            addresses("primary.db", socket.AF_INET6)
        with pytest.raises(socket.herror):
            socket.gethostbyaddr("10.77.0.1")
        with pytest.raises(ValueError, match="same address"):
            world.host("thief", "10.5.0.1")
            world.network.owner("10.5.0.1")

    run(scenario)


def test_a_lookup_takes_time_and_a_thread():
    async def scenario(world):
        world.host("db").start(async_echo)
        begin = world.now
        rows = await net.resolve("db", 80)
        assert world.now - begin == pytest.approx(0.01)
        assert rows[0].sockaddr == (world.hosts["db"].addresses[0], 80)
        begin = world.now
        await net.resolve("localhost", 80)
        assert world.now == begin
        world.network.lookup = None
        await net.resolve("db", 80)
        assert world.now == begin

    run(scenario)


def test_lookups_fail_by_probability():
    async def scenario(world):
        world.host("db")
        with pytest.raises(socket.gaierror, match="Temporary"):
            await net.resolve("db", 80)
        await net.resolve("localhost", 80)

    run_randomly(scenario, faults=Faults(dns=1))


# -- faults by probability ---------------------------------------------------------------------------------------------


async def numbered(world, count=60):
    """Send datagrams to another host; what came there, in order."""
    got = []

    async def receive():
        async with await net.udp(("", 9)) as sock:
            async for data, _ in sock:
                got.append(int(data))

    world.host("server").start(receive)
    await bateau.time.sleep(0.01)
    async with await net.udp(remote=("server", 9)) as sock:
        for number in range(count):
            await sock.send(b"%d" % number)
            await bateau.time.sleep(0.001)
    await bateau.time.sleep(1)
    return got


@pytest.mark.parametrize("by", ["faults", "link"])
def test_datagrams_are_lost_doubled_and_overtaken(by):
    def with_fault(fault, p):
        async def scenario(world):
            if by == "link":
                world.host("server")
                world.link("test", "server", **{fault: p})
            return await numbered(world)

        return run_randomly(scenario, faults=Faults(**{fault: p}) if by == "faults" else None)

    every = list(range(60))
    assert with_fault("loss", 0) == every
    lost = with_fault("loss", 0.3)
    assert lost == sorted(lost)
    assert 30 <= len(lost) < 56
    assert with_fault("loss", 1) == []
    doubled = with_fault("duplicate", 0.3)
    assert len(doubled) > 65
    assert sorted(set(doubled)) == every
    overtaken = with_fault("reorder", 0.3)
    assert overtaken != every
    assert sorted(overtaken) == every


def test_a_partition_swallows_datagrams():
    async def scenario(world):
        world.host("server")
        world.partition("test", "server")
        return await numbered(world)

    assert run(scenario) == []


def talk(world):
    with socket.create_connection(("10.0.0.2", 80)) as sock:
        for index in range(30):
            message = b"%03d" % index
            sock.sendall(message)
            got = b""
            while len(got) < 3:
                part = sock.recv(3 - len(got))
                assert part
                got += part
            assert got == message
    return world.now


def test_segments_are_reset_late_and_split():
    def with_fault(**faults):
        def scenario(world):
            started(world)
            return talk(world)

        return run_randomly(scenario, faults=Faults(**faults))

    calm = with_fault()
    assert calm == pytest.approx(0.001 + 0.02 + 30 * 0.02)
    assert with_fault(retransmit=0.2) > calm + 1
    assert with_fault(split=0.5) == pytest.approx(calm)
    with pytest.raises(ConnectionResetError):
        with_fault(reset=0.1)


def test_a_split_segment_finds_who_takes_a_part_for_the_whole():
    async def scenario(world):
        world.host("server").start(async_echo)
        await bateau.time.sleep(0.01)
        async with await net.connect_tcp("server", 80) as stream:
            for _ in range(5):
                await stream.write(b"whole message")
                assert await stream.read() == b"whole message"

    sim.explore(scenario, seeds=10)
    with pytest.raises(sim.Found, match="comes in two parts"):
        sim.explore(scenario, seeds=10, faults=Faults(split=0.1))


def test_connects_are_refused_or_never_answered():
    def scenario(world):
        started(world)
        with socket.socket() as sock:
            sock.settimeout(10)
            return outcome(sock.connect, ("10.0.0.2", 80))

    seen = {run_randomly(scenario, seed, faults=Faults(refuse=1)) for seed in range(10)}
    assert seen == {"ECONNREFUSED", "timed out"}


def test_losses_on_a_stream_only_delay_it():
    def scenario(world):
        started(world)
        world.link("test", "server", loss=0.3)
        return talk(world)

    assert run_randomly(scenario) > 2


def test_when_the_world_is_calm_nothing_goes_wrong_any_more():
    def scenario(world):
        started(world)
        world.link("test", "server", retransmit=1)
        world.partition("test", "server")
        world.calm()
        begin = world.now
        talk(world)
        assert world.now - begin < 1

    run_randomly(scenario, faults=Faults.many())


def test_many_faults_and_nothing_is_lost_or_mixed_up():
    async def scenario(world):
        world.host("server").start(async_echo)
        await bateau.time.sleep(0.01)

        async def client(number):
            message = bytes([number]) * 3000
            for _ in range(20):
                try:
                    async with await net.connect_tcp("server", 80) as stream:
                        await stream.write(message)
                        await stream.write_eof()
                        got = b""
                        while part := await stream.read():
                            got += part
                        assert got == message[: len(got)]
                        if got == message:
                            return True
                except (bateau.Broken, OSError):
                    await bateau.time.sleep(0.1)
            return False

        async with bateau.scope() as scope:
            tasks = [scope.spawn(client, number) for number in range(10)]
        assert any([await task for task in tasks])

    sim.explore(
        scenario, seeds=30, faults=Faults(reset=0.02, retransmit=0.1, split=0.2, refuse=0.1, dns=0.05, partition=0.2)
    )


# -- the same again ----------------------------------------------------------------------------------------------------

FRESH = """
import sys
sys.path.insert(0, {tests!r})
from test_network import digest_of_a_bad_day
print(digest_of_a_bad_day())
"""


def digest_of_a_bad_day():
    async def scenario(world):
        for name in ("a", "b"):
            world.host(name).start(async_echo)
        await bateau.time.sleep(0.01)

        async def client(name, number):
            for _ in range(5):
                try:
                    async with await net.connect_tcp(name, 80) as stream:
                        await stream.write(b"%d" % number)
                        await stream.read()
                except OSError:
                    await bateau.time.sleep(0.05)

        async with bateau.scope() as scope:
            for number in range(10):
                scope.spawn(client, "ab"[number % 2], number)
        got = await numbered(world, 20)
        world.trace("net", f"{got}")
        return world.digest()

    faults = Faults(reset=0.05, retransmit=0.1, split=0.1, loss=0.1, duplicate=0.1, reorder=0.1, refuse=0.05)
    return sim.run(scenario, seed=7, strategy="random", faults=faults)


def test_a_bad_day_is_the_same_in_another_interpreter():
    digest = digest_of_a_bad_day()
    assert digest_of_a_bad_day() == digest
    program = FRESH.format(tests=str(Path(__file__).parent))
    for hashing in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == digest


def test_no_real_socket_is_ever_opened(monkeypatch):
    opened = []

    def hook(event, args):
        if armed and (event.startswith("socket.") or event == "os.pipe"):
            opened.append((event, args))

    armed = True
    sys.addaudithook(hook)
    try:
        descriptors = set(os.listdir("/proc/self/fd"))
        digest_of_a_bad_day()
        assert set(os.listdir("/proc/self/fd")) == descriptors
    finally:
        armed = False
    assert opened == []


def test_sockets_outside_the_world_stay_real_while_it_is_open():
    import threading

    results = []

    def outside():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            with socket.create_connection(listening.getsockname()) as client:
                sock, _ = listening.accept()
                with sock:
                    client.sendall(b"real")
                    results.append(
                        (sock.recv(10), client.fileno() < 1_000_000, select.select([client], [client], [], 0))
                    )

    go, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (go.wait(10), outside(), done.set()))
    thread.start()

    def scenario():
        one, two = socket.socketpair()
        go.set()
        assert one.fileno() >= 1_000_000
        one.close()
        two.close()

    run(scenario)
    thread.join(10)
    assert results[0][:2] == (b"real", True)
