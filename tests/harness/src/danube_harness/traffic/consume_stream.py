"""A Consume stream of native streaming as a client sees it: nothing happens by itself."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from typing import Self, cast

import google_crc32c
import grpc.aio
import lz4.frame  # type: ignore[import-untyped]
import zstandard

from danube_proto import danube_stream_pb2 as api

METHOD = "/danube.stream.v1.Streaming/Consume"
ANSWER_S = 20.0
"""No answer of a test takes this long; it turns a hang into a failure."""
PLENTY = api.Credit(messages_total=1 << 40, bytes_total=1 << 50)


def messages_of(batch: api.Batch) -> list[api.StoredMessage]:
    """Return the messages of a batch; raises AssertionError if it is not what it says."""
    body = batch.body
    if batch.compression == api.COMPRESSION_ZSTD:
        body = zstandard.ZstdDecompressor().decompress(body)
    elif batch.compression == api.COMPRESSION_LZ4:
        body = lz4.frame.decompress(body)
    assert len(body) == batch.body_bytes
    assert google_crc32c.value(body) == batch.crc32c
    ends = struct.unpack_from(f"<{batch.messages}I", body)
    start, found = 4 * batch.messages, []
    for end in ends:
        found.append(api.StoredMessage.FromString(body[start : 4 * batch.messages + end]))
        start = 4 * batch.messages + end
    return found


class ConsumeStream:
    """One call of Consume.

    Attributes:
        other: answers that were read on the way to what a test waited for.
    """

    def __init__(self, addr: str) -> None:
        self._channel = grpc.aio.insecure_channel(addr, options=(("grpc.max_receive_message_length", -1),))
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        method = self._channel.stream_stream(METHOD, None, None)
        self._call = method()
        self.other: list[api.ConsumeResponse] = []

    @classmethod
    async def open(
        cls, addr: str, topics: str | Iterable[str], subscription: str = "s", **fields: object
    ) -> Self:
        """Subscribe. Raises grpc.aio.AioRpcError if it is refused."""
        self = cls(addr)
        try:
            names = [topics] if isinstance(topics, str) else list(topics)
            wanted = api.Subscribe(
                topics=names,
                subscription=subscription,
                **{"credit": PLENTY, **fields},  # type: ignore[arg-type]
            )
            await self.send(subscribe=wanted)
            assert (await self.answer()).HasField("subscribed")
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """End the call and its connection."""
        self._call.cancel()
        await self._channel.close(None)

    async def send(self, **fields: object) -> None:
        """Send one request."""
        request = api.ConsumeRequest(**fields)  # type: ignore[arg-type]
        try:
            await self._call.write(request.SerializeToString())
        except asyncio.InvalidStateError:
            await self._raise_status()

    async def ack(self, *spans: tuple[int, int], topic: int = 0, **fields: int) -> None:
        """Acknowledge spans of positions."""
        ranges = [api.Range(first=first, last=last) for first, last in spans]
        await self.send(ack=api.Ack(topic=topic, ranges=ranges, **fields))

    async def confirm(self, ticket: int = 1) -> None:
        """Wait until the owner has every acknowledgement."""
        await self.send(ack=api.Ack(ticket=ticket))
        assert (await self.await_one("acked")).acked.ticket == ticket

    async def done(self) -> None:
        """Half-close."""
        await self._call.done_writing()

    async def answer(self) -> api.ConsumeResponse:
        """Return the next answer. Raises grpc.aio.AioRpcError, EOFError when the call ended well."""
        async with asyncio.timeout(ANSWER_S):
            data = await self._call.read()
        if data is grpc.aio.EOF:
            await self._raise_status()
        return api.ConsumeResponse.FromString(cast("bytes", data))

    async def await_one(self, kind: str) -> api.ConsumeResponse:
        """Return the next answer of a kind; others go to `other`."""
        while True:
            answer = await self.answer()
            if answer.WhichOneof("response") == kind:
                return answer
            self.other.append(answer)

    async def take(self, count: int) -> list[tuple[int, api.StoredMessage]]:
        """Return (position, message) of at least ``count`` messages, as they come."""
        found: list[tuple[int, api.StoredMessage]] = []
        while len(found) < count:
            delivery = (await self.await_one("delivery")).delivery
            step = 1 if delivery.first_position else 0
            found += [
                (delivery.first_position + index * step, message)
                for index, message in enumerate(messages_of(delivery.batch))
            ]
        return found

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
