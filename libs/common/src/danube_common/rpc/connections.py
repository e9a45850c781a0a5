"""The connections to a port: bounded for each address that they come from, and counted by what they do.

The HTTP/2 server bounds all of them together and tells nothing of one that makes no call. Their sockets are
files of this process, so they are found there, and shut down as if their peers had closed them. The system's
table of connections tells how many there are, and whether their peers read.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import socket
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

LOOK_S: Final = 1.0
"""How soon connections beyond the bound are closed."""
SITE_BITS: Final = 64
"""Of an IPv6 address: who has one has all that begin so."""
COUNT_S: Final = 5.0
"""How often connections are counted."""
STATES: Final = ("handshake", "silent", "stalled", "used")
"""What a connection is counted as, the first that fits: its peer does not answer TCP's handshake, it has made
no call yet, its peer takes no more bytes, none of these."""
_OPEN_FILES: Final = Path("/proc/self/fd")
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LINES_MAX: Final = 100_000
"""What is read of each: connections of all ports."""
_ESTABLISHED: Final = "01"
_SYN_RECEIVED: Final = "03"
_PROBES_WINDOW: Final = "04:"
"""The timer that runs while the peer's buffers are full."""

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


def count_connections(
    port: int, called: Collection[Peer], tables: Collection[Path] = _TABLES
) -> tuple[Counter[str], set[Peer]]:
    """Return how many connections are in each of `STATES`, and which have made a call. Blocks.

    Args:
        port: that is listened on, by this process only.
        called: peers that have made a call, maybe over connections that are closed by now.
        tables: where the system tells of its connections.
    """
    named = {(host.removeprefix("::ffff:"), number): (host, number) for host, number in called}
    counts: Counter[str] = Counter()
    left: set[Peer] = set()
    for table in tables:
        with contextlib.suppress(OSError), table.open(encoding="ascii") as lines:  # a system without IPv6
            for line in itertools.islice(lines, _LINES_MAX):
                _, own, other, state, _, timer, _ = line.split(maxsplit=6)
                if not own.endswith(f":{port:04X}"):
                    continue
                if state == _SYN_RECEIVED:
                    counts["handshake"] += 1
                elif state == _ESTABLISHED:
                    if (peer := named.get(_peer(other))) is None:
                        counts["silent"] += 1
                    else:
                        left.add(peer)
                        counts["stalled" if timer.startswith(_PROBES_WINDOW) else "used"] += 1
    return counts, left


def _peer(address: str) -> Peer:
    host, port = address.split(":")
    # Words of four bytes, each with its lowest first.
    words = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
    family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, words).removeprefix("::ffff:"), int(port, 16)


def _site(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4 or address.ipv4_mapped is not None:
        return host
    return str(ipaddress.ip_network((address, SITE_BITS), strict=False))
