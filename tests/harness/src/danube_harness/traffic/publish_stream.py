"""A Publish stream of native streaming as a client sees it: nothing happens by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Self, cast

import google_crc32c
import grpc.aio

from danube_proto import danube_stream_pb2 as api

METHOD = "/danube.stream.v1.Streaming/Publish"
ANSWER_S = 20.0
"""No answer of a test takes this long; it turns a hang into a failure."""


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


class PublishStream:
    """One call of Publish.

    Attributes:
        opened: the first answer, once `open` has returned.
    """

    def __init__(self, addr: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            addr, options=(("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        )
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        method = self._channel.stream_stream(METHOD, None, None)
        self._call = method()
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

    async def close(self) -> None:
        """End the call and its connection."""
        self._call.cancel()
        await self._channel.close(None)

    async def send_request(self, request: api.PublishRequest) -> None:
        """Send one request."""
        try:
            await self._call.write(request.SerializeToString())
        except asyncio.InvalidStateError:
            await self._raise_status()

    async def send(self, first: int, batch: api.Batch | Sequence[bytes], partition: int = 0) -> None:
        """Send a batch, or one of payloads."""
        if not isinstance(batch, api.Batch):
            batch = batch_of(batch)
        wanted = api.PublishBatch(partition=partition, first_sequence=first, batch=batch)
        await self.send_request(api.PublishRequest(batch=wanted))

    async def done(self) -> None:
        """Half-close."""
        await self._call.done_writing()

    async def answer(self) -> api.PublishResponse:
        """Return the next answer. Raises grpc.aio.AioRpcError, EOFError when the call ended well."""
        async with asyncio.timeout(ANSWER_S):
            data = await self._call.read()
        if data is grpc.aio.EOF:
            await self._raise_status()
        return api.PublishResponse.FromString(cast("bytes", data))

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

    async def status(self) -> tuple[str, str]:
        """Read to the end; return the name and the message of the status."""
        try:
            while True:
                await self.answer()
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
