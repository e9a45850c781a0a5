"""An asyncio connection under `http2`: awaited calls, calls with a callback, streams."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final, Self, cast

from danube_perf.http2 import Arrived, Ended, Http2, ProtocolError, Stream

CONNECT_S_MAX: Final = 10.0
CALL_S_MAX: Final = 30.0
"""How long a call of the set-up may take; calls that are measured have no bound but the run's end."""
LOST: Final = "the connection was lost"


class Unreachable(Exception):
    """The platform cannot be reached; the text says where and why."""


class CallError(Exception):
    """A call ended with a status other than OK.

    Attributes:
        status: the gRPC status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text or f"gRPC status {status}")
        self.status = status


class Channel(asyncio.Protocol):
    """One connection; made by `connect`."""

    def __init__(self, authority: str) -> None:
        self._http2 = Http2(authority)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self.closed: asyncio.Future[str] = self._loop.create_future()
        """Done with the reason when the connection is no more."""

    @classmethod
    async def connect(cls, address: str) -> Self:
        """Connect to ``host:port``.

        Raises:
            Unreachable: nobody listens there, or does not answer in time.
        """
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                _, channel = await loop.create_connection(lambda: cls(address), host.strip("[]"), int(port))
        except TimeoutError:
            raise Unreachable(f"{address} did not answer within {CONNECT_S_MAX:.0f} s") from None
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise Unreachable(f"{address} cannot be reached: {why}") from None
        return channel

    async def unary(self, path: bytes, message: bytes) -> bytes:
        """Call and await the answer.

        Raises:
            CallError: the call was refused, or took longer than CALL_S_MAX.
        """
        answer: asyncio.Future[bytes] = self._loop.create_future()

        def ended(status: int, text: str, messages: list[bytes]) -> None:
            if answer.done():
                return
            if status or not messages:
                answer.set_exception(CallError(status, text or "an answer without a message"))
            else:
                answer.set_result(messages[0])

        self.call(path, message, ended)
        try:
            async with asyncio.timeout(CALL_S_MAX):
                return await answer
        except TimeoutError:
            raise CallError(4, f"{path.decode()} took longer than {CALL_S_MAX:.0f} s") from None

    def call(
        self, path: bytes, message: bytes, ended: Ended, arrived: Arrived | None = None
    ) -> Stream | None:
        """Begin a call; see `Http2.call`."""
        stream = self._http2.call(path, message, ended, arrived)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return stream

    def grant(self, stream: Stream, size: int) -> None:
        """Let a stream send so many bytes of messages more."""
        self._http2.grant(stream, size)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    async def close(self) -> None:
        """Close the connection; calls that have not ended end with UNAVAILABLE."""
        self._http2.close("closed here")
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait((self.closed,), timeout=1.0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and send the preface."""
        self._transport = cast("asyncio.Transport", transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hand over, and answer at once."""
        try:
            self._http2.receive(data)
        except ProtocolError as error:
            self._http2.close(f"the peer speaks no gRPC that is understood here: {error}")
            if self._transport is not None:
                self._transport.abort()
            return
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all calls."""
        self._transport = None
        why = LOST if exc is None else f"{LOST}: {exc}"
        self._http2.close(why)
        if not self.closed.done():
            self.closed.set_result(why)

    def _flush(self) -> None:
        self._flushing = False
        self._http2.settle()
        if self._transport is not None and (out := self._http2.output()):
            self._transport.write(out)
