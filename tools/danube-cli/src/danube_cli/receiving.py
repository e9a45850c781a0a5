"""The work of ``consume``: receive messages, print them, acknowledge them, in this order."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from danube_cli.consume import ErrorChoice
from danube_cli.outcome import FAILED, INTERRUPTED, LOST, OK, UNFIT, complain
from danube_client import (
    Consumer,
    Disconnected,
    Event,
    Lost,
    Message,
    Reconnected,
    SchemaType,
    Start,
    SubscriptionType,
    Tls,
    connect,
)

# The most messages that are printed before they are acknowledged.
UNACKNOWLEDGED_MAX = 64
# How long the command waits at its end for the answers to its acknowledgements.
SETTLE_S = 5.0

Show = Callable[[Message, SchemaType], bytes]
ShowUnfit = Callable[[Message, ValueError], bytes]


@dataclass(frozen=True, slots=True)
class Job:
    """What to receive, and how to print it.

    Attributes:
        consumer_name: None generates one.
        start: where a new subscription begins; None is the oldest message.
        show_unfit: prints a message that does not fit the schema.
        count_max: the number of messages after which the command ends; None is no bound.
        quiet_s: the seconds without a message after which the command ends; None waits for ever.
    """

    addresses: list[str]
    tls: Tls | None
    topic: str
    subscription: str
    consumer_name: str | None
    type: SubscriptionType
    key_filters: list[str]
    start: Start | None
    show: Show
    show_unfit: ShowUnfit
    on_error: ErrorChoice
    prefetch: int | None
    reconnect: bool
    count_max: int | None
    quiet_s: float | None


@dataclass(slots=True)
class Connectivity:
    """Says on stderr when the consumer is away and when it is back, and what it lost.

    Attributes:
        away: topics and partitions whose stream is lost.
        lost: messages that expired before they were read, or were dropped.
    """

    away: set[str] = field(default_factory=set)
    lost: int = 0

    def note(self, event: Event) -> None:
        """Take an event of the consumer."""
        match event:
            case Disconnected():
                if not self.away:
                    reason = f": {event.error}" if event.error else ""
                    complain(f"Away from {event.topic}{reason}. Trying to come back.")
                self.away.add(event.topic)
            case Reconnected():
                self.away.discard(event.topic)
                if not self.away:
                    complain(f"Back at {event.topic} after {event.away_s:.1f} s.")
            case Lost():
                self.lost += event.count
                complain(f"{event}.")


@dataclass(slots=True)
class Printer:
    """Prints messages and acknowledges them after the output was flushed.

    Attributes:
        unfit: how many did not fit the schema.
        stopped: one of these is to end the command.
    """

    consumer: Consumer
    job: Job
    schema: SchemaType
    received: int = 0
    unfit: int = 0
    stopped: bool = False
    first_s: float = 0.0
    last_s: float = 0.0
    done: list[Message] = field(default_factory=list)

    def put(self, message: Message) -> None:
        """Print a message; one that does not fit the schema is reported and handled as ``on_error`` says."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.received += 1
        try:
            line = self.job.show(message, self.schema)
        except ValueError as error:
            complain(f"Error processing message: {error}")
            self.unfit += 1
            self.stopped = self.job.on_error is ErrorChoice.stop
            if self.stopped:
                return
            line = self.job.show_unfit(message, error) if self.job.on_error is ErrorChoice.show else b""
        sys.stdout.buffer.write(line)
        self.done.append(message)

    def summary(self) -> str:
        """Return the number of messages and their rate between the first and the last one."""
        seconds = self.last_s - self.first_s
        text = f"{_counted(self.received)} received"
        return f"{text} in {seconds:.2f} s, {self.received / seconds:.0f} msg/s" if seconds else text

    async def flush(self) -> None:
        """Flush the output, then acknowledge what was printed."""
        sys.stdout.buffer.flush()
        for message in self.done:
            (await self.consumer.post_ack(message)).add_done_callback(_report)
        self.done.clear()


async def receive(job: Job) -> int:
    """Receive until the end and return the exit code.

    Raises:
        ClientError: the topic does not exist, or the stream failed and may not be opened again.
        OSError: the output cannot be written.
    """
    connectivity = Connectivity()
    streaming = job.type is SubscriptionType.KEY_SHARED
    async with connect(*job.addresses, tls=job.tls, streaming=streaming) as client:
        schema = await client.schema(job.topic)
        consumer = await client.consumer(
            job.topic,
            job.subscription,
            name=job.consumer_name,
            type=job.type,
            key_filters=job.key_filters,
            initial_position=job.start,
            reconnect=job.reconnect,
            prefetch=job.prefetch,
            on_event=connectivity.note,
        )
        if consumer.created is False:
            complain(
                f"Subscription {job.subscription} exists already: it goes on where it was, not at --from."
            )
        printer = Printer(consumer, job, schema.type)
        code = OK
        try:
            code = await _receive(job, printer, connectivity)
        except asyncio.CancelledError:
            code = INTERRUPTED
        finally:
            with suppress(OSError):  # TimeoutError among them
                async with asyncio.timeout(SETTLE_S):
                    await printer.flush()
                    await consumer.flush_acks()
                    await consumer.check_losses()
            await consumer.abort()
            complain(printer.summary())
    if code == OK and connectivity.lost:
        return LOST
    return UNFIT if code == OK and printer.unfit else code


async def _receive(job: Job, printer: Printer, connectivity: Connectivity) -> int:
    while not printer.stopped and (job.count_max is None or printer.received < job.count_max):
        if not printer.consumer.ready or len(printer.done) >= UNACKNOWLEDGED_MAX:
            await printer.flush()
        try:
            async with asyncio.timeout(job.quiet_s):
                message = await anext(printer.consumer)
        except TimeoutError:
            if connectivity.away:
                continue  # silence means nothing without a connection
            return OK
        except StopAsyncIteration:
            complain("The platform has ended the stream.")
            return FAILED
        printer.put(message)
    return OK


def _report(ack: asyncio.Future[None]) -> None:
    if not ack.cancelled() and (error := ack.exception()):
        complain(f"Failed to acknowledge message: {error}")


def _counted(messages: int) -> str:
    return f"{messages} message{'' if messages == 1 else 's'}"
