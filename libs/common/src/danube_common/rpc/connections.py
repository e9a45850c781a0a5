"""The connections to a port, bounded for each address that they come from.

The HTTP/2 server bounds all of them together and tells nothing of one that makes no call. Their sockets are
files of this process, so they are found there, and shut down as if their peers had closed them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

LOOK_S: Final = 1.0
"""How soon connections beyond the bound are closed."""
SITE_BITS: Final = 64
"""Of an IPv6 address: who has one has all that begin so."""
_OPEN_FILES: Final = Path("/proc/self/fd")

Peer = tuple[str, int]


def close_excess(port: int, limit: int, busy: Collection[Peer]) -> int:
    """Close what is beyond a bound for each address; return how many. Blocks.

    Args:
        port: that is listened on.
        limit: connections from one address.
        busy: peers that have calls; the others are closed first.
    """
    files = [int(name) for name in os.listdir(_OPEN_FILES)]  # noqa: PTH208 - often, and there may be many
    if len(files) <= limit:
        return 0
    closed = 0
    with contextlib.ExitStack() as copies:
        by_host: dict[str, list[tuple[bool, int, socket.socket]]] = defaultdict(list)
        for file, copy, peer in _connections(files, port):
            copies.callback(copy.close)
            by_host[_site(peer[0])].append((peer[:2] not in busy, file, copy))
        for of_host in by_host.values():
            # The last are those without a call, and of these the ones opened last.
            for _, _, copy in sorted(of_host, key=lambda one: one[:2])[limit:]:
                with contextlib.suppress(OSError):
                    copy.shutdown(socket.SHUT_RDWR)
                    closed += 1
    return closed


def _connections(files: Collection[int], port: int) -> Iterator[tuple[int, socket.socket, Peer]]:
    for file in files:
        try:
            copy = socket.socket(fileno=os.dup(file))
        except OSError:
            continue  # it is closed by now, or no socket
        with contextlib.suppress(OSError):
            if copy.family in (socket.AF_INET, socket.AF_INET6) and copy.getsockname()[1] == port:
                yield file, copy, copy.getpeername()
                continue
        copy.close()


def _site(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4 or address.ipv4_mapped is not None:
        return host
    return str(ipaddress.ip_network((address, SITE_BITS), strict=False))
