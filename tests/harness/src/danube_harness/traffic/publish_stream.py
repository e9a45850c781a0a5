"""A Publish stream of native streaming as a client sees it: nothing happens by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Self

import google_crc32c

from danube_harness.traffic.native_call import NativeCall
from danube_proto import danube_stream_pb2 as api


def message_of(payload: bytes, **fields: object) -> bytes:
    """Return a serialized message."""
    return api.StoredMessage(payload=payload, **fields).SerializeToString()  # type: ignore[arg-type]


def body_of(messages: Sequence[bytes]) -> bytes:
    """Return the body of a batch of serialized messages."""
    ends = accumulate(len(message) for message in messages)
    return b"".join((*(end.to_bytes(4, "little") for end in ends), *messages))


def batch_of(payloads: Iterable[bytes]) -> api.Batch:
    """Return a batch of messages that have nothing but a payload."""
    messages = [message_of(payload) for payload in payloads]
    return batch_of_body(body_of(messages), len(messages))


def batch_of_body(body: bytes, messages: int) -> api.Batch:
    """Return an uncompressed batch."""
    return api.Batch(body=body, messages=messages, crc32c=google_crc32c.value(body), body_bytes=len(body))


class PublishStream(NativeCall[api.PublishRequest, api.PublishResponse]):
    """One call of Publish.

    Attributes:
        opened: the first answer, once `open` has returned.
    """

    def __init__(self, addr: str) -> None:
        super().__init__(addr, "Publish", api.PublishResponse)
        self.opened = api.Opened()

    @classmethod
    async def open(cls, addr: str, topic: str, producer: str = "", **fields: object) -> Self:
        """Open a producer. Raises grpc.aio.AioRpcError if it is refused."""
        self = cls(addr)
        try:
            opening = api.OpenProducer(topic=topic, producer_name=producer, **fields)  # type: ignore[arg-type]
            await self.send_request(api.PublishRequest(open=opening))
            self.opened = (await self.answer()).opened
        except BaseException:
            await self.close()
            raise
        return self

    async def send(self, first: int, batch: api.Batch | Sequence[bytes], partition: int = 0) -> None:
        """Send a batch, or one of payloads."""
        if not isinstance(batch, api.Batch):
            batch = batch_of(batch)
        wanted = api.PublishBatch(partition=partition, first_sequence=first, batch=batch)
        await self.send_request(api.PublishRequest(batch=wanted))

    async def stored(self, through: int, partition: int = 0) -> list[tuple[int, int]]:
        """Read until all up to ``through`` is answered; return (first sequence, first position) of batches.

        Raises AssertionError if one is refused.
        """
        batches: list[tuple[int, int]] = []
        while True:
            answer = await self.answer()
            assert answer.WhichOneof("response") in {"stored", "window"}, answer
            if answer.HasField("stored") and answer.stored.partition == partition:
                batches += ((each.first_sequence, each.first_position) for each in answer.stored.batches)
                if answer.stored.through_sequence >= through:
                    return batches

    async def refused(self) -> api.Refused:
        """Return the next answer, a refusal."""
        answer = await self.answer()
        assert answer.HasField("refused"), answer
        return answer.refused
