"""What TCP and UDP sockets share: their addresses, and the stack of the host they are on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from .addresses import ANY4, ANY6, Endpoint, is_v6, to_python
from .socketfile import SocketFile

if TYPE_CHECKING:
    from ..process import Process
    from .stack import Stack


class InetFile(SocketFile):
    """Base of TCP and UDP sockets. The addresses that its calls take are ``Endpoint``s: the doors have resolved names."""

    def __init__(self, process: Process, family: int, type: int, proto: int) -> None:
        super().__init__(process, family, type, proto)
        self.stack: Stack = self.world.network.stack(process.host)
        # None until bound; after ``connect`` the address that the peer sees.
        self.local: Endpoint | None = None
        self.remote: Endpoint | None = None

    def bound_to(self, endpoint: Endpoint) -> None:
        """It was given this address; of an IPv6 one, it hears no IPv4."""
        if is_v6(endpoint.ip) and endpoint.ip != ANY6:
            self._options[socket.IPPROTO_IPV6, socket.IPV6_V6ONLY] = 1

    def any_endpoint(self) -> Endpoint:
        """Every address of the host, and any free port."""
        return Endpoint(ANY6 if self.family == socket.AF_INET6 else ANY4, 0)

    def getsockname(self) -> Any:
        return to_python(self.family, self.local)
