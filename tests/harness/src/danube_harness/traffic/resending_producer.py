"""An idempotent producer that loses its connections: what was not answered it sends again, as it was."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import grpc.aio

from danube_harness.traffic.publish_stream import PublishStream

RETRY_S = 0.1
BATCHES_IN_FLIGHT = 16


class ResendingProducer:
    """Publishes the numbers from 0 on, in batches, on whichever gateway answers.

    Attributes:
        sent: how many numbers were given to a gateway at least once.
        answered: how many of them, from the first on, are stored.
        streams: how many streams were opened.
    """

    def __init__(self, addrs: Sequence[str], topic: str, name: str, batch_messages: int) -> None:
        self.sent = 0
        self.answered = 0
        self.streams = 0
        self._addrs = itertools.cycle(addrs)
        self._topic = topic
        self._name = name
        self._batch_messages = batch_messages
        self._unanswered: deque[int] = deque()
        """The first number of each batch."""
        self._stopping = False
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Publish until `stop` was called and everything is answered."""
        while not self._stopping or self._unanswered:
            with suppress(grpc.aio.AioRpcError, TimeoutError, EOFError):
                await self._publish(next(self._addrs))
            await asyncio.sleep(RETRY_S)

    def stop(self) -> None:
        """Begin no more batches."""
        self._stopping = True
        self._moved.set()

    async def until_answered(self, more: int) -> None:
        """Wait until so many more numbers are stored."""
        aim = self.answered + more
        while self.answered < aim:
            self._moved.clear()
            await self._moved.wait()

    async def _publish(self, addr: str) -> None:
        stream = await PublishStream.open(addr, self._topic, self._name, idempotent=True)
        self.streams += 1
        try:
            writing = asyncio.create_task(self._write(stream))
            reading = asyncio.create_task(self._read(stream))
            try:
                await asyncio.wait((writing, reading), return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in (writing, reading):
                    task.cancel()
                ended = await asyncio.gather(writing, reading, return_exceptions=True)
            for outcome in ended:
                if isinstance(outcome, Exception):
                    raise outcome
        finally:
            await stream.close()

    async def _write(self, stream: PublishStream) -> None:
        for first in list(self._unanswered):
            await self._send(stream, first)
        while not self._stopping:
            if len(self._unanswered) >= BATCHES_IN_FLIGHT:
                self._moved.clear()
                await self._moved.wait()
                continue
            first = self.sent
            self._unanswered.append(first)
            self.sent += self._batch_messages
            await self._send(stream, first)

    async def _send(self, stream: PublishStream, first: int) -> None:
        numbers = range(first, first + self._batch_messages)
        await stream.send(first + 1, [str(number).encode() for number in numbers])

    async def _read(self, stream: PublishStream) -> None:
        while not self._stopping or self._unanswered:
            answer = await stream.answer()
            assert not answer.HasField("refused"), answer
            if answer.HasField("stored"):
                self.answered = max(self.answered, answer.stored.through_sequence)
                while self._unanswered and self._unanswered[0] < self.answered:
                    self._unanswered.popleft()
                self._moved.set()
