"""What the test servers have in common: free ports, start and end, and clusters of several members."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from danube_harness.child_process import ChildProcess

HOST = "127.0.0.1"
START_ATTEMPTS_MAX = 3


class Server(Protocol):
    """One server, or a cluster of them."""

    async def start(self) -> None:
        """Start it; returns when it serves. Raises RuntimeError."""

    async def kill(self) -> None:
        """SIGKILL; returns when everything is gone. Idempotent."""


S = TypeVar("S", bound=Server)
M = TypeVar("M", bound=ChildProcess)


@asynccontextmanager
async def started(make: Callable[[int], S]) -> AsyncIterator[S]:
    """A started server, killed at the end.

    Args:
        make: makes a server on free ports; takes the number of the attempt. Another process may take a port
            before the server listens on it: then another server is made, up to START_ATTEMPTS_MAX.
    """
    for attempt in range(1, START_ATTEMPTS_MAX + 1):
        server = make(attempt)
        try:
            await server.start()
            break
        except RuntimeError:
            await server.kill()
            if attempt == START_ATTEMPTS_MAX:
                raise
    try:
        yield server
    finally:
        await server.kill()


def free_ports(count: int) -> list[int]:
    """Ports nobody listened on a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind((HOST, 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


class Cluster(Generic[M]):
    """Servers that a test may kill or pause one by one or all at once.

    Attributes:
        members: the server processes.
    """

    def __init__(self, members: Sequence[M]) -> None:
        self.members = members

    async def start(self) -> None:
        """Start every member that does not run; returns when all of them serve."""
        await asyncio.gather(*(member.start() for member in self.members if not member.running))

    async def kill(self) -> None:
        """SIGKILL for every member at once. Idempotent."""
        await asyncio.gather(*(member.kill() for member in self.members))

    def pause(self) -> None:
        """SIGSTOP for every member: the servers are silent, their connections stay."""
        for member in self.members:
            member.pause()

    def resume(self) -> None:
        """The end of a `pause`."""
        for member in self.members:
            member.resume()
