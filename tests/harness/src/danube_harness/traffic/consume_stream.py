"""A Consume stream of native streaming as a client sees it: nothing happens by itself."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Self

import google_crc32c
import lz4.frame  # type: ignore[import-untyped]
import zstandard

from danube_harness.traffic.native_call import NativeCall
from danube_proto import danube_stream_pb2 as api

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


class ConsumeStream(NativeCall[api.ConsumeRequest, api.ConsumeResponse]):
    """One call of Consume; `other` also has answers that came before what a test waited for."""

    def __init__(self, addr: str) -> None:
        super().__init__(addr, "Consume", api.ConsumeResponse)

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

    async def send(self, **fields: object) -> None:
        """Send one request."""
        await self.send_request(api.ConsumeRequest(**fields))  # type: ignore[arg-type]

    async def ack(self, *spans: tuple[int, int], topic: int = 0, **fields: int) -> None:
        """Acknowledge spans of positions."""
        ranges = [api.Range(first=first, last=last) for first, last in spans]
        await self.send(ack=api.Ack(topic=topic, ranges=ranges, **fields))

    async def confirm(self, ticket: int = 1) -> None:
        """Wait until the owner has every acknowledgement."""
        await self.send(ack=api.Ack(ticket=ticket))
        assert (await self.await_one("acked")).acked.ticket == ticket

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
