"""``getaddrinfo`` of what needs no lookup says what the C library says; so do the calls around it."""

from __future__ import annotations

import itertools
import socket

import pytest

from bateau import sim

HOSTS = [
    None, "127.0.0.1", b"127.0.0.1", "127.1", "0x7f.1", "10.1.2.3", "0.0.0.0", "255.255.255.255", "256.1.1.1", "1.2.3.4.5",
    "::1", "::", "fe80::1", "FE80:0::1", "::ffff:1.2.3.4", "fe80::1%1",
]  # fmt: skip
PORTS = [None, 0, 80, "80", b"80", "http", "domain", "ntp", "nosuch", "", "70000", 65536]
FLAGS = [
    0, socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICSERV, socket.AI_V4MAPPED,
    socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
]  # fmt: skip


def questions():
    for host, port in itertools.product(HOSTS, PORTS):
        numeric = socket.AI_NUMERICHOST if host else 0
        for family in (0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 99):
            yield host, port, family, socket.SOCK_STREAM, 0, numeric
        for kind, proto in itertools.product((0, 1, 2, 3, 77), (0, 6, 17, 1)):
            yield host, port, 0, kind, proto, numeric
        for flags in FLAGS:
            yield host, port, 0, 0, 0, flags | numeric
            yield host, port, socket.AF_INET6, 1, 0, flags | numeric


def answer(*question):
    try:
        return socket.getaddrinfo(*question)
    except (OSError, UnicodeError) as error:
        return type(error).__name__, error.args


def answers():
    return {question: answer(*question) for question in questions()}


def test_getaddrinfo_answers_as_the_c_library_does():
    real, simulated = answers(), sim.run(answers)
    differing = {
        question: (real[question], simulated[question]) for question in real if real[question] != simulated[question]
    }
    assert not differing, next(iter(differing.items()))


@pytest.mark.parametrize(
    "call",
    [
        lambda: socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        lambda: socket.getnameinfo(("::1", 80, 0, 0), socket.NI_NUMERICHOST),
        lambda: socket.getnameinfo(("127.0.0.1", 53), socket.NI_NUMERICHOST | socket.NI_DGRAM),
        lambda: socket.gethostbyname("10.1.2.3"),
        lambda: socket.gethostbyname(""),
        lambda: socket.gethostbyname_ex("10.1.2.3"),
        lambda: socket.getservbyname("https", "tcp"),
        lambda: socket.getservbyport(22),
        lambda: answer("127.0.0.1", 1.5),
        lambda: answer("127.0.0.1", None, 0, 0, 0, socket.AI_NUMERICHOST),
    ],
)
def test_calls_that_need_no_lookup(call):
    assert sim.run(call) == call()


def test_what_is_no_name():
    def scenario():
        with pytest.raises(TypeError):
            socket.getaddrinfo(5, 80)
        with pytest.raises(OSError, match="service/proto"):
            socket.getservbyname("nosuch")
        with pytest.raises(OSError, match="port/proto"):
            socket.getservbyport(1)
        with pytest.raises(OverflowError):
            socket.getservbyport(70000)
        with pytest.raises(socket.gaierror):
            socket.getnameinfo(("10.9.9.9", 1), socket.NI_NAMEREQD)
        assert socket.if_indextoname(2) == "eth0"
        assert socket.if_nametoindex("lo") == 1
        with pytest.raises(OSError):
            socket.if_nametoindex("wlan0")

    sim.run(scenario)
