"""Sockets on any runtime: TCP with Happy Eyeballs, listeners with limits, UDP, Unix sockets, name resolution.

Names and arguments are those of Python's ``socket`` module where it has them.
"""

from __future__ import annotations

from . import unix as unix
from ._errors import Truncated as Truncated
from ._listener import Listener as Listener
from ._listener import serve as serve
from ._resolve import AddrInfo as AddrInfo
from ._resolve import getaddrinfo as getaddrinfo
from ._resolve import getnameinfo as getnameinfo
from ._resolve import resolve as resolve
from ._stream import SocketStream as SocketStream
from ._tcp import connect_tcp as connect_tcp
from ._tcp import listen_tcp as listen_tcp
from ._udp import UdpSocket as UdpSocket
from ._udp import udp as udp
from ._uri import connect as connect
from ._uri import from_socket as from_socket
from ._uri import listen as listen

__all__ = [
    "AddrInfo",
    "Listener",
    "SocketStream",
    "Truncated",
    "UdpSocket",
    "connect",
    "connect_tcp",
    "from_socket",
    "getaddrinfo",
    "getnameinfo",
    "listen",
    "listen_tcp",
    "resolve",
    "serve",
    "udp",
    "unix",
]
