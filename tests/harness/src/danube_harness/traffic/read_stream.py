"""A Read call of native streaming as a client sees it."""

from __future__ import annotations

import asyncio
from typing import Self, cast

import grpc.aio

from danube_harness.traffic.consume_stream import messages_of
from danube_harness.traffic.native_call import ANSWER_S
from danube_proto import danube_stream_pb2 as api

METHOD = "/danube.stream.v1.Streaming/Read"


class ReadStream:
    """One call of Read.

    Attributes:
        missing: messages of which the answers so far say that they are missing.
        offsets: of the messages so far.
    """

    def __init__(self, addr: str, request: api.ReadRequest) -> None:
        self._channel = grpc.aio.insecure_channel(addr, options=(("grpc.max_receive_message_length", -1),))
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
        method = self._channel.unary_stream(METHOD, None, None)
        self._call = method(request.SerializeToString())
        self.missing = 0
        self.offsets: list[int] = []

    @classmethod
    def open(cls, addr: str, topic: str, **fields: object) -> Self:
        """Begin to read a topic."""
        return cls(addr, api.ReadRequest(topic=topic, **fields))  # type: ignore[arg-type]

    async def close(self) -> None:
        """End the call and its connection."""
        self._call.cancel()
        await self._channel.close(None)

    async def begun(self) -> None:
        """Wait until it is settled where the reading begins."""
        await self._call.initial_metadata()

    async def rest(self) -> list[tuple[int, bytes]]:
        """Read to the end and return (position, payload) of each message. Raises grpc.aio.AioRpcError."""
        found: list[tuple[int, bytes]] = []
        while (more := await self._next()) is not None:
            found += more
        return found

    async def take(self, count: int) -> list[tuple[int, bytes]]:
        """Return at least ``count`` messages, as they come."""
        found: list[tuple[int, bytes]] = []
        while len(found) < count:
            more = await self._next()
            assert more is not None, f"the reading ended after {len(found)} messages"
            found += more
        return found

    async def _next(self) -> list[tuple[int, bytes]] | None:
        async with asyncio.timeout(ANSWER_S):
            data = await self._call.read()
        if data is grpc.aio.EOF:
            return None
        answer = api.ReadResponse.FromString(cast("bytes", data))
        self.missing += answer.missing
        if answer.HasField("first_offset"):
            self.offsets += range(answer.first_offset, answer.first_offset + answer.batch.messages)
        if not answer.HasField("batch"):
            return []
        return [
            (answer.first_position + index, message.payload)
            for index, message in enumerate(messages_of(answer.batch))
        ]
