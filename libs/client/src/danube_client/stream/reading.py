"""One reading of a topic without a subscription, on its stream."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from danube_client.calls import Stream
from danube_client.connection import Connections
from danube_client.errors import ELSEWHERE, RECOVERABLE, ClientError
from danube_client.events import Lost
from danube_client.message import Message
from danube_client.payload import Codec
from danube_client.retry import Retry
from danube_client.stream.batch import unpack
from danube_client.stream.presence import Presence
from danube_proto import danube_stream_pb2 as api

YIELD_MESSAGES: Final = 256
"""After so many messages others get their turn."""


class ReadTopic:
    """The topic of a reading: its messages need no acknowledgement."""

    def __init__(self, topic: str, codec: Codec | None) -> None:
        self.topic = topic
        self._codec = codec

    async def ack(self, _message: Message) -> None:
        """Do nothing: no cursor moves."""

    async def ack_cumulative(self, _message: Message) -> None:
        """Do nothing: no cursor moves."""

    async def nack(self, _message: Message, _delay_s: float | None, _reason: str) -> None:
        """Do nothing: no cursor moves."""

    def decode(self, payload: bytes) -> Any:
        """Return what the reader's codec makes of a payload."""
        return payload if self._codec is None else self._codec.decode(payload)


class Reading:
    """Reads one topic or partition; after a lost connection it goes on behind the last message that it gave.

    Attributes:
        ready: messages that can be taken without waiting.
        missing: how many messages were retained no more, or could not be read; a lower bound.
    """

    def __init__(
        self,
        connections: Connections,
        request: api.ReadRequest,
        retry: Retry,
        presence: Presence,
        codec: Codec | None,
    ) -> None:
        self.ready: deque[Message] = deque()
        self.missing = 0
        self._connections = connections
        self._request = request
        self._retry = retry
        self._presence = presence
        self._source = ReadTopic(request.topic, codec)
        self._stream: Stream[api.ReadRequest, api.ReadResponse] | None = None
        self._began = False
        self._failures = 0
        self._handed = 0
        self._ended = False

    async def refill(self) -> None:
        """Wait until `ready` has a message.

        Raises:
            StopAsyncIteration: there is nothing more.
            CallError: the platform refused, or did not come back within the retries.
        """
        while not self.ready:
            if self._ended:
                raise StopAsyncIteration
            if self._handed >= YIELD_MESSAGES:
                self._handed = 0
                await asyncio.sleep(0)
            await self._advance()

    async def _advance(self) -> None:
        try:
            if self._stream is None:
                self._stream = self._connections.home.read(self._request)
            answer = await self._stream.read()
        except RECOVERABLE as error:
            self.close()
            await self._recover(error)
            return
        self._failures, self._began = 0, True
        self._presence.back()
        if answer.missing:
            self.missing += answer.missing
            self._presence.tell(Lost(self._request.topic, "", answer.missing))
        if not answer.HasField("batch"):
            self._ended = True
            self.close()
            return
        self._take(answer)

    def _take(self, answer: api.ReadResponse) -> None:
        position = answer.first_position
        messages = unpack(answer.batch)
        shift = answer.first_offset - position if answer.HasField("first_offset") else None
        for data in messages:
            offset = None if shift is None else position + shift
            self.ready.append(Message(data, self._source, position, 0, offset))
            position += 1
        self._handed += len(messages)
        request = self._request
        request.start.kind, request.start.value = api.Start.POSITION, position
        if request.messages_max:
            if len(messages) >= request.messages_max:
                self._ended = True
                self.close()
            else:
                request.messages_max -= len(messages)

    async def _recover(self, error: ClientError) -> None:
        if isinstance(error, ELSEWHERE):
            self._connections.after(self._connections.home)
        self._failures += 1
        if not self._began:
            if self._failures >= self._retry.attempts_max:
                raise error
        else:
            self._presence.away(error)
            limit_s = self._retry.reconnect_for_s
            if limit_s is not None and self._presence.away_s() >= limit_s:
                raise error
        await asyncio.sleep(self._retry.pause_s(self._failures))

    def close(self) -> None:
        """End the stream."""
        if self._stream is not None:
            self._stream.break_off()
            self._stream = None
