"""The work of ``consume``: receive messages, print them, acknowledge them, in this order."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from danube_cli.outcome import INTERRUPTED, OK, complain
from danube_client import Consumer, Message, SchemaType, Start, SubscriptionType, connect

# The most messages that are printed before they are acknowledged.
PRINTED_MAX = 64
# How long the command waits at its end for the answers to its acknowledgements.
SETTLE_S = 5.0

Show = Callable[[Message, SchemaType], bytes]


@dataclass(frozen=True, slots=True)
class Job:
    """What to receive, and how to print it.

    Attributes:
        start: where a new subscription begins; None is the oldest message.
        count_max: the number of messages after which the command ends; None is no bound.
        quiet_s: the seconds without a message after which the command ends; None waits for ever.
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
class Printer:
    """Prints messages and acknowledges them after the output was flushed."""

    consumer: Consumer
    show: Show
    schema: SchemaType
    received: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    printed: list[Message] = field(default_factory=list)

    def put(self, message: Message) -> None:
        """Print a message; one that does not fit the schema is reported and not acknowledged."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.received += 1
        try:
            line = self.show(message, self.schema)
        except ValueError as error:
            complain(f"Error processing message: {error}")
            return
        sys.stdout.buffer.write(line)
        self.printed.append(message)

    def summary(self) -> str:
        """Return the number of messages and their rate between the first and the last one."""
        seconds = self.last_s - self.first_s
        text = f"{self.received} message{'' if self.received == 1 else 's'} received"
        return f"{text} in {seconds:.2f} s, {self.received / seconds:.0f} msg/s" if seconds else text

    async def flush(self) -> None:
        """Flush the output, then acknowledge what was printed."""
        sys.stdout.buffer.flush()
        for message in self.printed:
            (await self.consumer.post_ack(message)).add_done_callback(_report)
        self.printed.clear()


async def receive(job: Job) -> int:
    """Receive until the end and return the exit code.

    Raises:
        ClientError: the topic does not exist, or the stream failed and could not be opened again.
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
        printer = Printer(consumer, job.show, schema.type)
        code = OK
        try:
            await _receive(job, printer)
        except asyncio.CancelledError:
            code = INTERRUPTED
        finally:
            with suppress(TimeoutError, BrokenPipeError):
                async with asyncio.timeout(SETTLE_S):
                    await printer.flush()
                    await consumer.flush_acks()
            await consumer.abort()
            complain(printer.summary())
        return code


async def _receive(job: Job, printer: Printer) -> None:
    while job.count_max is None or printer.received < job.count_max:
        if not printer.consumer.ready or len(printer.printed) >= PRINTED_MAX:
            await printer.flush()
        try:
            async with asyncio.timeout(job.quiet_s):
                message = await anext(printer.consumer)
        except (StopAsyncIteration, TimeoutError):
            return
        printer.put(message)


def _report(ack: asyncio.Task[None]) -> None:
    if not ack.cancelled() and (error := ack.exception()):
        complain(f"Failed to acknowledge message: {error}")
