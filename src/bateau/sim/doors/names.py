"""Doors of name resolution: ``socket.getaddrinfo`` and its kin ask the world's network, never the machine's.

A world's hosts are found by their names, ``localhost`` is every host's own, and ``world.network.name(...)`` adds others. A lookup of any
other host's name takes the time of a round to a name server and may fail (``Faults.dns``).
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from ..faults import decide
from ..net.addresses import (
    ANY4,
    ANY6,
    BROADCAST,
    LOOPBACK4,
    LOOPBACK6,
    SERVICE_OF,
    SERVICES,
    Endpoint,
    canonical,
    family_of,
    to_python,
)
from . import door

if TYPE_CHECKING:
    from ..net.network import Network
    from ..world import World

_INET, _INET6 = int(socket.AF_INET), int(socket.AF_INET6)
_SAID = {
    socket.EAI_BADFLAGS: "Bad value for ai_flags",
    socket.EAI_NONAME: "Name or service not known",
    socket.EAI_AGAIN: "Temporary failure in name resolution",
    socket.EAI_NODATA: "No address associated with hostname",
    socket.EAI_FAMILY: "ai_family not supported",
    socket.EAI_SOCKTYPE: "ai_socktype not supported",
    socket.EAI_SERVICE: "Servname not supported for ai_socktype",
    socket.EAI_ADDRFAMILY: "Address family for hostname not supported",
}
# Type, protocol, and how /etc/services calls it.
_KINDS = (
    (int(socket.SOCK_STREAM), socket.IPPROTO_TCP, "tcp"),
    (int(socket.SOCK_DGRAM), socket.IPPROTO_UDP, "udp"),
    (int(socket.SOCK_RAW), 0, "raw"),
)
_UDP_TOO = frozenset({"echo", "discard", "daytime", "time", "domain", "kerberos", "ldap", "snmp", "https"})
_UDP_ONLY = frozenset({"tftp", "ntp", "syslog"})


def is_tuple(value: Any) -> bool:
    """Whether it is a tuple, without telling the type checkers, who would then ask of what."""
    return isinstance(value, tuple)


def failed(code: int) -> socket.gaierror:
    """The error of a lookup."""
    return socket.gaierror(code, _SAID[code])


# -- names to addresses ------------------------------------------------------------------------------------------------


def addresses(world: World, name: str) -> list[str]:
    """What ``name``, which is no address, leads to. Blocks the running thread for the lookup. Raises ``socket.gaierror``."""
    network: Network = world.network
    host = world.thread.process.host
    own = name.lower() in {"localhost", host.name.lower()}
    if not own:
        if network.lookup is not None:
            delay = network.lookup.draw(world.random(f"lookup {host.name}"))
            if delay > 0:
                world.block(f"lookup of {name}", world.now + delay)
        if decide(world, f"dns {host.name}", world.faults.dns, lambda: f"the lookup of {name} fails"):
            raise failed(socket.EAI_AGAIN)
    found = network.find(name)
    if isinstance(found, OSError):
        raise type(found)(*found.args)
    if not found:
        raise failed(socket.EAI_NONAME)
    return found


def literal(name: str) -> tuple[str, int] | None:
    """The address and its scope if ``name`` is an IP address, also in the short forms that the C library takes ("127.1")."""
    bare, percent, scope = name.partition("%")
    ip = canonical(bare)
    if ip is None and not percent:
        try:
            return socket.inet_ntop(_INET, socket.inet_aton(name)), 0
        except OSError:
            return None
    if ip is None:
        return None
    if ":" not in bare and percent:
        return None
    return (bare.lower() if ":" in bare and ":" not in ip else ip), int(
        scope
    ) if scope.isdecimal() else 1 if scope else 0


def _decoded(host: Any) -> str | None:
    if host is None or isinstance(host, str):
        return host if host is None or host.isascii() else host.encode("idna").decode("ascii")
    if isinstance(host, bytes | bytearray):
        return bytes(host).decode("ascii")
    raise TypeError("getaddrinfo() argument 1 must be string or None")


def _ports(port: Any, type: int, proto: int, flags: int, bare: bool) -> list[tuple[int, int, int]]:
    """The (type, protocol, port) that fit."""
    if isinstance(port, bytes):
        port = port.decode()
    if port is not None and not isinstance(port, int | str):
        raise OSError("Int or String expected")
    text = None if port is None else str(port)
    if bare and text is None:
        raise failed(socket.EAI_NONAME)
    number = 0 if not text else int(text) if text.isdecimal() else None
    if number is None and flags & socket.AI_NUMERICSERV:
        raise failed(socket.EAI_NONAME)
    kinds = [kind for kind in _KINDS if (not type or kind[0] == type) and (not proto or kind[1] in (proto, 0))]
    if not type and proto:
        kinds = [kind for kind in kinds if kind[1] == proto] or kinds
    if not kinds:
        raise failed(socket.EAI_SOCKTYPE)
    if text and all(name == "raw" for *_, name in kinds):
        raise failed(socket.EAI_SERVICE)  # raw sockets have no ports
    if number is not None:
        return [(kind, known or proto, number & 0xFFFF) for kind, known, _ in kinds]
    assert text is not None
    rows = [(kind, known, SERVICES[text]) for kind, known, name in kinds if _has_service(text, name)]
    if not rows:
        raise failed(socket.EAI_SERVICE)
    return rows


def _has_service(name: str, protocol: str) -> bool:
    if name not in SERVICES or protocol == "raw":
        return False
    return name not in _UDP_ONLY if protocol == "tcp" else name in _UDP_TOO or name in _UDP_ONLY


@door("socket", "getaddrinfo")
def getaddrinfo(
    world: World, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[tuple[Any, ...]]:
    name = _decoded(host)
    if name is None and port is None:
        raise failed(socket.EAI_NONAME)
    if family not in (0, _INET, _INET6):
        raise failed(socket.EAI_FAMILY)
    if flags & socket.AI_CANONNAME and name is None:
        raise failed(socket.EAI_BADFLAGS)
    kinds = _ports(port, int(type), proto, flags, name is None)
    canon = ""
    if not name:
        found = [(ip, 0) for ip in ((ANY4, ANY6) if flags & socket.AI_PASSIVE else (LOOPBACK6, LOOPBACK4))]
        if name == "":
            raise failed(socket.EAI_NONAME)
    elif (numeric := literal(name)) is not None:
        found = [numeric]
        canon = name
        if family and family_of(numeric[0]) != family:
            if family == _INET and (four := canonical(numeric[0])) is not None and ":" not in four:
                found = [(four, 0)]
            elif family == _INET6 and flags & socket.AI_V4MAPPED:
                found = [(f"::ffff:{numeric[0]}", 0)]
            else:
                raise failed(socket.EAI_ADDRFAMILY)
    elif flags & socket.AI_NUMERICHOST:
        raise failed(socket.EAI_NONAME)
    else:
        found = [(ip, 0) for ip in addresses(world, name)]
        canon = name
    wanted = [(ip, scope) for ip, scope in found if not family or family_of(ip) == family]
    if not wanted and family == _INET6 and flags & socket.AI_V4MAPPED:
        wanted = [(f"::ffff:{ip}", 0) for ip, _ in found]
    if not wanted:
        raise failed(socket.EAI_ADDRFAMILY)
    rows: list[tuple[Any, ...]] = []
    for ip, scope in wanted:
        for kind, protocol, number in kinds:
            v6 = ":" in ip
            where = (ip, number, 0, scope) if v6 else (ip, number)
            shown = canon if flags & socket.AI_CANONNAME and not rows else ""
            of = socket.AF_INET6 if v6 else socket.AF_INET
            rows.append((of, socket.SocketKind(kind), protocol, shown, where))
    return rows


def endpoint(world: World, family: int, address: Any, what: str) -> Endpoint:
    """Python's address of a socket of ``family``, as ``what`` ("connect") was given it; a name in it is looked up.

    Raises ``TypeError``, ``OverflowError``, ``socket.gaierror`` as Python's socket does.
    """
    called = "AF_INET" if family == _INET else "AF_INET6"
    if not is_tuple(address):
        raise TypeError(f"{what}(): {called} address must be tuple, not {type(address).__name__}")
    parts: tuple[Any, ...] = address
    if family == _INET and len(parts) != 2:
        raise TypeError("AF_INET address must be a pair (host, port)")
    if not 2 <= len(parts) <= 4:
        raise TypeError("AF_INET6 address must be a tuple (host, port[, flowinfo[, scopeid]])")
    host, port = parts[0], parts[1]
    if not hasattr(port, "__index__"):
        raise TypeError(f"'{type(port).__name__}' object cannot be interpreted as an integer")
    number = port.__index__()
    if not 0 <= number <= 65535:
        raise OverflowError(f"{what}(): port must be 0-65535.")
    if isinstance(host, bytes | bytearray):
        host = bytes(host).decode("ascii")
    if not isinstance(host, str):
        raise TypeError(f"str, bytes or bytearray expected, not {type(host).__name__}")
    return Endpoint(_address(world, family, host), number)


def _address(world: World, family: int, host: str) -> str:
    if not host:
        return ANY4 if family == _INET else ANY6
    if host == "<broadcast>" and family == _INET:
        return BROADCAST
    numeric = literal(host)
    if numeric is not None:
        if family_of(numeric[0]) != family:
            raise failed(socket.EAI_ADDRFAMILY)
        ip = canonical(numeric[0])
        assert ip is not None
        return ip
    for ip in addresses(world, host if host.isascii() else host.encode("idna").decode("ascii")):
        if family_of(ip) == family:
            return ip
    raise failed(socket.EAI_ADDRFAMILY)


# -- the older calls, and back -----------------------------------------------------------------------------------------


@door("socket", "gethostname")
def gethostname(world: World) -> str:
    return world.thread.process.host.name


def _addresses4(world: World, name: Any) -> list[str]:
    text = _decoded(name) or ""
    numeric = literal(text) if text else (ANY4, 0)
    found = [numeric[0]] if numeric is not None else addresses(world, text)
    wanted = [ip for ip in found if ":" not in ip]
    if not wanted:
        raise failed(socket.EAI_ADDRFAMILY)
    return wanted


@door("socket", "gethostbyname")
def gethostbyname(world: World, hostname: Any, /) -> str:
    return _addresses4(world, hostname)[0]


@door("socket", "gethostbyname_ex")
def gethostbyname_ex(world: World, hostname: Any, /) -> tuple[str, list[str], list[str]]:
    return _decoded(hostname) or "", [], _addresses4(world, hostname)


@door("socket", "gethostbyaddr")
def gethostbyaddr(world: World, address: Any, /) -> tuple[str, list[str], list[str]]:
    text = _decoded(address) or ""
    numeric = literal(text)
    ip = numeric[0] if numeric is not None else addresses(world, text)[0]
    name = world.network.name_at(canonical(ip) or ip)
    if name is None:
        raise socket.herror(1, "Unknown host")
    return name, [], [ip]


@door("socket", "getnameinfo")
def getnameinfo(world: World, sockaddr: Any, flags: int, /) -> tuple[str, str]:
    if not is_tuple(sockaddr):
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    parts: tuple[Any, ...] = sockaddr
    numeric = literal(str(parts[0]))
    if numeric is None:
        raise failed(socket.EAI_NONAME)
    ip, port = numeric[0], int(parts[1])
    name = None if flags & socket.NI_NUMERICHOST else world.network.name_at(canonical(ip) or ip)
    if name is None and flags & socket.NI_NAMEREQD:
        raise failed(socket.EAI_NONAME)
    service = None if flags & socket.NI_NUMERICSERV else SERVICE_OF.get(port)
    if service is not None and not _has_service(service, "udp" if flags & socket.NI_DGRAM else "tcp"):
        service = None
    return name or ip, service or str(port)


@door("socket", "getservbyname")
def getservbyname(world: World, name: str, protocol: str = "", /) -> int:
    if not any(_has_service(name, known) for known in ([protocol] if protocol else ["tcp", "udp"])):
        raise OSError("service/proto not found")
    return SERVICES[name]


@door("socket", "getservbyport")
def getservbyport(world: World, port: int, protocol: str = "", /) -> str:
    if not 0 <= port <= 65535:
        raise OverflowError("getservbyport: port must be 0-65535.")
    name = SERVICE_OF.get(port)
    if name is None or not any(_has_service(name, known) for known in ([protocol] if protocol else ["tcp", "udp"])):
        raise OSError("port/proto not found")
    return name


# Every simulated host has these two.
_INTERFACES = [(1, "lo"), (2, "eth0")]


@door("socket", "if_nameindex")
def if_nameindex(world: World) -> list[tuple[int, str]]:
    return list(_INTERFACES)


@door("socket", "if_nametoindex")
def if_nametoindex(world: World, name: str, /) -> int:
    for number, known in _INTERFACES:
        if known == name:
            return number
    raise OSError("no interface with this name")


@door("socket", "if_indextoname")
def if_indextoname(world: World, index: int, /) -> str:
    for number, known in _INTERFACES:
        if number == index:
            return known
    raise OSError(6, "No such device or address")


def shown(family: int, found: Endpoint | None) -> Any:
    """An endpoint as Python's socket shows it."""
    return to_python(family, found)
