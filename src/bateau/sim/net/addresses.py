"""Addresses: canonical text inside the network, and what Python's socket module takes and gives.

Inside, an IP address is canonical text; an IPv4 address that is mapped into IPv6 (``::ffff:10.0.0.1``) is kept as the IPv4 one.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import NamedTuple

AF_INET, AF_INET6, AF_UNIX = int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)
ANY4, ANY6, LOOPBACK4, LOOPBACK6 = "0.0.0.0", "::", "127.0.0.1", "::1"
BROADCAST = "255.255.255.255"


class Endpoint(NamedTuple):
    """An IP address and a port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@lru_cache(4096)
def canonical(text: str) -> str | None:
    """The one way to write an IP address; None for what is none."""
    try:
        return socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, text))
    except (OSError, ValueError):
        pass
    try:
        raw = socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return None
    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def is_v6(ip: str) -> bool:
    """Whether a canonical address is IPv6."""
    return ":" in ip


def family_of(ip: str) -> int:
    """``AF_INET`` or ``AF_INET6``."""
    return AF_INET6 if ":" in ip else AF_INET


def is_loopback(ip: str) -> bool:
    """Whether it never leaves its host."""
    return ip.startswith("127.") or ip == LOOPBACK6


def is_any(ip: str) -> bool:
    """Whether it stands for every address of the host."""
    return ip in (ANY4, ANY6)


def is_multicast(ip: str) -> bool:
    """Whether it is a group's."""
    return ip[:2].lower() == "ff" if ":" in ip else 224 <= int(ip.partition(".")[0]) <= 239


def to_python(family: int, endpoint: Endpoint | None) -> tuple[str, int] | tuple[str, int, int, int]:
    """As ``getsockname`` and its kin show it on a socket of ``family``; None: nothing bound."""
    ip, port = endpoint if endpoint is not None else (ANY6 if family == AF_INET6 else ANY4, 0)
    if family == AF_INET6:
        return (ip if ":" in ip else ANY6 if ip == ANY4 else f"::ffff:{ip}"), port, 0, 0
    return ip, port


# What real systems read from /etc/services, as far as programs ask for it by name.
SERVICES = {
    "echo": 7, "discard": 9, "daytime": 13, "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "time": 37, "domain": 53,
    "tftp": 69, "http": 80, "kerberos": 88, "pop3": 110, "ntp": 123, "imap2": 143, "imap": 143, "snmp": 161, "bgp": 179, "ldap": 389,
    "https": 443, "submissions": 465, "syslog": 514, "submission": 587, "ldaps": 636, "imaps": 993, "pop3s": 995, "mysql": 3306,
    "postgresql": 5432, "amqp": 5672, "redis": 6379, "http-alt": 8080,
}  # fmt: skip
# The first of two names for a port is the one it is called by.
SERVICE_OF = {port: name for name, port in reversed(SERVICES.items())}
