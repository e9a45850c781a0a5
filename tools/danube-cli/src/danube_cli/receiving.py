"""The work of ``consume``: receive messages, print them, acknowledge them, in this order."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

from danube_cli.connectivity import Connectivity
from danube_cli.consume import ErrorChoice
from danube_cli.outcome import FAILED, INTERRUPTED, LOST, OK, UNFIT, complain
from danube_cli.printing import Form
from danube_cli.progress import Progress
from danube_client import (
    Closed,
    Consumer,
    Message,
    SchemaType,
    Start,
    SubscriptionType,
    Tls,
    connect,
)

# The most messages that are printed before they are acknowledged.
UNACKNOWLEDGED_MAX = 1024
# How long the command waits at its end for the answers to its acknowledgements.
SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """What to receive, and how to print it.

    Attributes:
        consumer_name: None generates one.
        start: where a new subscription begins; None is the oldest message.
        form: how messages are printed.
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
    form: Form
    on_error: ErrorChoice
    prefetch: int | None
    reconnect: bool
    count_max: int | None
    quiet_s: float | None


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

    def put(self, messages: list[Message]) -> None:
        """Print messages, until one is to end the command."""
        self.first_s = self.first_s or time.monotonic()
        show, schema, lines = self.job.form.show, self.schema, []
        received, shown = len(messages), len(messages)
        for index, message in enumerate(messages):
            try:
                lines.append(show(message, schema))
            except ValueError as error:
                lines.append(self._unfit(message, error))
                if self.stopped:
                    received, shown = index + 1, index
                    break
        self.received += received
        sys.stdout.buffer.write(b"".join(lines))
        self.done += messages[:shown]
        self.last_s = time.monotonic()

    def _unfit(self, message: Message, error: ValueError) -> bytes:
        """Report a message that does not fit the schema, and return how it is shown."""
        complain(f"Error processing message: {error}")
        self.unfit += 1
        self.stopped = self.job.on_error is ErrorChoice.stop
        return self.job.form.show_unfit(message, error) if self.job.on_error is ErrorChoice.show else b""

    def summary(self) -> str:
        """Return the number of messages and their rate between the first and the last one."""
        seconds = self.last_s - self.first_s
        text = f"{_counted(self.received)} received"
        if self.received < 2:
            return text
        return f"{text} in {seconds:.2f} s, {self.received / seconds:.0f} msg/s"

    async def flush(self) -> None:
        """Flush the output, then acknowledge what was printed."""
        sys.stdout.buffer.flush()
        if self.consumer.streaming:
            await self.consumer.ack_all(self.done)
        else:
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
    async with connect(*job.addresses, tls=job.tls, streaming=True) as client:
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
        if consumer.created is False and job.start is not None:
            complain(
                f"Subscription {job.subscription} exists already: it goes on where it was, not at --from."
            )
        printer = Printer(consumer, job, schema.type)
        code = OK
        try:
            # Messages on a terminal show themselves how far it is.
            shown = sys.stderr.isatty() and not sys.stdout.isatty()
            with Progress("received", job.count_max, shown=shown) as progress:
                code = await _receive(job, printer, connectivity, progress)
        except asyncio.CancelledError:
            code = INTERRUPTED
        finally:
            with suppress(OSError):  # TimeoutError among them
                async with asyncio.timeout(SETTLE_S):
                    await printer.flush()
                    await consumer.flush_acks()
                    await consumer.check_losses()
            await consumer.abort()
            if not isinstance(sys.exception(), BrokenPipeError):
                complain(printer.summary())
    if code == OK and connectivity.lost:
        return LOST
    return UNFIT if code == OK and printer.unfit else code


async def _receive(job: Job, printer: Printer, connectivity: Connectivity, progress: Progress) -> int:
    consumer = printer.consumer
    while not printer.stopped and (job.count_max is None or printer.received < job.count_max):
        if not consumer.ready:
            await printer.flush()
        left = UNACKNOWLEDGED_MAX - len(printer.done)
        if job.count_max is not None:
            left = min(left, job.count_max - printer.received)
        try:
            messages = await consumer.receive_batch(left, job.quiet_s)
        except Closed:
            complain("The platform has ended the stream.")
            return FAILED
        if not messages and not connectivity.away:  # silence means nothing without a connection
            return OK
        printer.put(messages)
        if len(printer.done) >= UNACKNOWLEDGED_MAX:
            await printer.flush()
        progress.show(printer.received, printer.received)
    return OK


def _report(ack: asyncio.Future[None]) -> None:
    if not ack.cancelled() and (error := ack.exception()):
        complain(f"Failed to acknowledge message: {error}")


def _counted(messages: int) -> str:
    return f"{messages} message{'' if messages == 1 else 's'}"
