"""One call of native streaming in both directions, as a client sees it: nothing happens by itself."""

from __future__ import annotations

import asyncio
from typing import Final, Generic, Protocol, TypeVar, cast

import grpc.aio

ANSWER_S: Final = 20.0
"""No answer of a test takes this long; it turns a hang into a failure."""


class Message(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return its bytes."""

    @classmethod
    def FromString(cls, data: bytes, /) -> Message:  # noqa: N802 - protobuf's name
        """Return the message of the bytes."""


Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


class NativeCall(Generic[Request, Answer]):
    """A call of ``method`` on a connection of its own, answered by messages of a kind.

    Attributes:
        other: answers that `status` read on the way to the end.
    """

    def __init__(self, addr: str, method: str, kind: type[Answer]) -> None:
        self._channel = grpc.aio.insecure_channel(
            addr, options=(("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        )
        stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        stream = self._channel.stream_stream(f"/danube.stream.v1.Streaming/{method}", None, None)
        self._call = stream()
        self._kind = kind
        self.other: list[Answer] = []

    async def close(self) -> None:
        """End the call and its connection."""
        self._call.cancel()
        await self._channel.close(None)

    async def send_request(self, request: Request) -> None:
        """Send one request."""
        try:
            await self._call.write(request.SerializeToString())
        except asyncio.InvalidStateError:
            await self._raise_status()

    async def done(self) -> None:
        """Half-close."""
        await self._call.done_writing()

    async def answer(self) -> Answer:
        """Return the next answer. Raises grpc.aio.AioRpcError, EOFError when the call ended well."""
        async with asyncio.timeout(ANSWER_S):
            data = await self._call.read()
        if data is grpc.aio.EOF:
            await self._raise_status()
        return cast("Answer", self._kind.FromString(cast("bytes", data)))

    async def status(self) -> tuple[str, str]:
        """Read to the end; return the name and the message of the status."""
        try:
            while True:
                self.other.append(await self.answer())
        except EOFError:
            return "OK", ""
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""

    async def _raise_status(self) -> None:
        code = await self._call.code()
        if code is grpc.StatusCode.OK:
            raise EOFError
        raise grpc.aio.AioRpcError(
            code,
            await self._call.initial_metadata(),
            await self._call.trailing_metadata(),
            await self._call.details(),
        )
