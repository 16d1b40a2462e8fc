"""The simulated network: names, links between hosts, TCP, UDP, Unix sockets and pipes, as the operating system shows them.

In reading order: ``addresses``, ``links`` (what lies between two hosts), ``network`` (all of it, one per world), ``stack`` (one host's
end), ``socketfile`` (what every socket has), ``flow`` (one direction of a TCP connection), ``tcp``, ``udp``, ``unixsocket``, ``pipes``. What
programs call is in ``doors``: ``sockets``, ``names``, ``polling``, ``descriptors``.
"""

from __future__ import annotations
