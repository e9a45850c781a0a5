"""The work of ``consume``: received, shown, acknowledged, in this order."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from danube_cli.outcome import INTERRUPTED, OK, complain
from danube_client import Consumer, Message, SchemaType, Start, SubscriptionType, connect

# Shown together at most, before they are acknowledged.
SHOWN_MAX = 64
# How long an ending command waits for the answers to its acknowledgements.
SETTLE_S = 5.0

Show = Callable[[Message, SchemaType], bytes]


@dataclass(frozen=True, slots=True)
class Job:
    """What to receive, and how to show it.

    Attributes:
        start: where the subscription begins if it is new; None begins with the oldest message.
        count_max: ends after so many messages, unless None.
        quiet_s: ends when nothing has come for so long, unless None.
    """

    addresses: list[str]
    topic: str
    subscription: str
    consumer_name: str
    type: SubscriptionType
    start: Start | None
    show: Show
    count_max: int | None
    quiet_s: float | None


@dataclass(slots=True)
class Screen:
    """Shows messages and acknowledges them once they are out of this process."""

    consumer: Consumer
    show: Show
    schema: SchemaType
    received: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    shown: list[Message] = field(default_factory=list)

    def put(self, message: Message) -> None:
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.received += 1
        try:
            line = self.show(message, self.schema)
        except ValueError as error:
            complain(f"Error processing message: {error}")
            return
        sys.stdout.buffer.write(line)
        self.shown.append(message)

    def summary(self) -> str:
        """How many came, and how fast from the first to the last: waiting for either end is not counted."""
        seconds = self.last_s - self.first_s
        text = f"{self.received} message{'' if self.received == 1 else 's'} received"
        return f"{text} in {seconds:.2f} s, {self.received / seconds:.0f} msg/s" if seconds else text

    async def flush(self) -> None:
        sys.stdout.buffer.flush()
        for message in self.shown:
            (await self.consumer.post_ack(message)).add_done_callback(_tell)
        self.shown.clear()


async def receive(job: Job) -> int:
    """Receives until the end and returns the exit code.

    Raises:
        ClientError: the topic is not there, or the stream could not be kept.
        BrokenPipeError: the reader of the output has gone.
    """
    async with connect(*job.addresses) as client:
        schema = await client.schema(job.topic)
        consumer = await client.consumer(
            job.topic,
            job.subscription,
            name=job.consumer_name,
            type=job.type,
            initial_position=job.start,
            reconnect=True,
        )
        if consumer.created is False:
            complain(
                f"Subscription {job.subscription} exists already: it goes on where it was, not at --from."
            )
        screen = Screen(consumer, job.show, schema.type)
        code = OK
        try:
            await _receive(job, screen)
        except asyncio.CancelledError:
            code = INTERRUPTED
        finally:
            with suppress(TimeoutError, BrokenPipeError):
                async with asyncio.timeout(SETTLE_S):
                    await screen.flush()
                    await consumer.flush_acks()
            await consumer.abort()
            complain(screen.summary())
        return code


async def _receive(job: Job, screen: Screen) -> None:
    while job.count_max is None or screen.received < job.count_max:
        if not screen.consumer.ready or len(screen.shown) >= SHOWN_MAX:
            await screen.flush()
        try:
            async with asyncio.timeout(job.quiet_s):
                message = await anext(screen.consumer)
        except (StopAsyncIteration, TimeoutError):
            return
        screen.put(message)


def _tell(ack: asyncio.Task[None]) -> None:
    if not ack.cancelled() and (error := ack.exception()):
        complain(f"Failed to acknowledge message: {error}")
