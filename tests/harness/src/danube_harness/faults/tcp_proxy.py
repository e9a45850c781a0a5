"""A TCP proxy whose lines can be held, slowed, emptied and cut, each direction by itself.

It stands between any two processes: one of them is told the proxy's address instead of the other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

HOST = "127.0.0.1"
CHUNK_BYTES_MAX = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
_SO_ATTACH_FILTER = 26
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Flow(StrEnum):
    """What becomes of the bytes of one direction."""

    PASS = "they pass"
    HOLD = "they wait, and arrive late once healed: what a partition does to TCP"
    SWALLOW = "they are taken and lost; healing cuts the connections that this happened to"


class Direction:
    """One direction of every connection.

    Attributes:
        delay_s: each chunk of up to CHUNK_BYTES_MAX waits so long: a line both late and slow.
    """

    def __init__(self) -> None:
        self._flow = Flow.PASS
        self._open = asyncio.Event()
        self._open.set()
        self.delay_s = 0.0

    @property
    def flow(self) -> Flow:
        """What becomes of the bytes now."""
        return self._flow

    @flow.setter
    def flow(self, flow: Flow) -> None:
        self._flow = flow
        if flow is Flow.HOLD:
            self._open.clear()
        else:
            self._open.set()

    async def until_open(self) -> None:
        """Wait while the flow is `Flow.HOLD`."""
        await self._open.wait()


class _Link:
    """One connection; ``far`` is missing when it was accepted and led nowhere."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter | None) -> None:
        self._ends = [near] if far is None else [near, far]
        self.robbed = far is None

    def cut(self, *, reset: bool) -> None:
        for end in self._ends:
            if reset and (link := end.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.transport.abort()

    def vanish(self) -> None:
        for end in self._ends:
            if (link := end.get_extra_info("socket")) is not None:
                _drop_packets(link)


def _drop_packets(link: socket.socket) -> None:
    """Have the kernel drop everything that arrives, as if the network were cut: nothing is confirmed."""
    drop_all = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction of a packet filter: keep 0 bytes
    code = ctypes.create_string_buffer(drop_all)
    link.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(code)))


class TcpProxy:
    """Passes connections on to ``upstream`` until told otherwise.

    Attributes:
        up: from those who connect to the upstream.
        down: back to them.
        half_open: new connections are accepted and lead nowhere until healed, which cuts them.
    """

    def __init__(self, upstream: Callable[[], str]) -> None:
        self.up = Direction()
        self.down = Direction()
        self.half_open = False
        self._upstream = upstream
        self._links: set[_Link] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._port = 0

    @classmethod
    @asynccontextmanager
    async def run(cls, upstream: Callable[[], str]) -> AsyncIterator[TcpProxy]:
        """Listen on a free port as long as the context lasts.

        Args:
            upstream: gives ``host:port``, asked anew for each connection.
        """
        proxy = cls(upstream)
        server = await asyncio.start_server(proxy._accepted, HOST, 0, limit=CHUNK_BYTES_MAX)
        proxy._port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            for handler in list(proxy._handlers):
                handler.cancel()
            await asyncio.gather(*proxy._handlers, return_exceptions=True)

    @property
    def address(self) -> str:
        """``host:port`` to connect to."""
        return f"{HOST}:{self._port}"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._links)

    def part(self) -> None:
        """Both directions wait and new connections lead nowhere: the two sides cannot reach each other."""
        self.up.flow = self.down.flow = Flow.HOLD
        self.half_open = True

    def cut(self, *, reset: bool = True) -> None:
        """End every connection, by RST or else by FIN. What was on its way is lost."""
        for link in list(self._links):
            link.cut(reset=reset)

    def vanish(self) -> None:
        """Drop the packets of every connection that is open: neither side hears of the other again."""
        for link in self._links:
            link.vanish()

    def heal(self) -> None:
        """Everything passes again; connections that lost bytes or led nowhere are cut."""
        self.half_open = False
        for direction in (self.up, self.down):
            direction.delay_s = 0.0
            direction.flow = Flow.PASS
        for link in list(self._links):
            if link.robbed:
                link.cut(reset=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            # Cancelled at the end of the proxy or failed with its connection: nobody asks how it ended.
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._connected(reader, writer)
        finally:
            writer.transport.abort()
            self._handlers.discard(task)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.half_open:
            link = _Link(writer, None)
            self._links.add(link)
            try:
                while await reader.read(CHUNK_BYTES_MAX):
                    pass
            finally:
                self._links.discard(link)
            return
        host, _, port = self._upstream().rpartition(":")
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            far_reader, far_writer = await asyncio.open_connection(host, int(port), limit=CHUNK_BYTES_MAX)
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, far_writer, self.up, link))
                pumps.create_task(_pump(far_reader, writer, self.down, link))
        except* OSError:
            pass  # one side is gone: so is the connection
        finally:
            self._links.discard(link)
            far_writer.transport.abort()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction, link: _Link
) -> None:
    while True:
        chunk = await reader.read(CHUNK_BYTES_MAX)
        if direction.delay_s:
            await asyncio.sleep(direction.delay_s)
        await direction.until_open()
        if direction.flow is Flow.SWALLOW:
            link.robbed = True
            if chunk:
                continue
            return
        if not chunk:
            writer.write_eof()
            return
        writer.write(chunk)
        await writer.drain()
