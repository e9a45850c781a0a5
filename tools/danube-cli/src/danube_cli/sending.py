"""The work of ``produce``: send messages, print their sequence ids or errors."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from danube_cli import payload as payloads
from danube_cli.lines import Lines, UnreadableError
from danube_cli.outcome import FAILED, INTERRUPTED, OK, UNREACHABLE, complain
from danube_cli.progress import SendProgress
from danube_client import (
    Client,
    ClientError,
    NotReady,
    Producer,
    Schema,
    SchemaType,
    Strategy,
    Tls,
    Unreachable,
    connect,
)

# How long an interrupted command waits for the answers to sent messages.
SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Text:
    """One message to send ``count`` times, at least ``interval_s`` apart."""

    payload: bytes
    count: int
    interval_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, and where to; the fields are those of ``Client.producer``."""

    addresses: list[str]
    tls: Tls | None
    topic: str
    producer_name: str | None
    schema: Schema | None
    strategy: Strategy | None
    partitions: int | None
    in_flight_max: int
    attributes: dict[str, str]
    key: str | None
    source: Text | Lines


@dataclass(slots=True)
class Tally:
    """Counts the outcomes of the messages, in the order in which they were sent.

    Attributes:
        announce: print the sequence id of each message.
        lost: the connection was lost beyond the retries.
        waiting: the outcomes that are not counted yet, each with the number of its line or 0.
    """

    announce: bool
    sent: int = 0
    failed: int = 0
    lost: bool = False
    waiting: deque[tuple[int, asyncio.Future[int]]] = field(default_factory=deque)

    def collect(self) -> None:
        """Count the answers that have arrived."""
        while self.waiting and self.waiting[0][1].done():
            self._count(*self.waiting.popleft())
        if self.announce:
            sys.stdout.flush()

    def _count(self, line: int, outcome: asyncio.Future[int]) -> None:
        try:
            sequence_id = outcome.result()
        except ClientError as error:
            self.fail(str(error), line)
            self.lost = self.lost or isinstance(error, (Unreachable, NotReady))
        else:
            self.sent += 1
            if self.announce:
                sys.stdout.write(f"Message sent successfully with ID: {sequence_id}\n")

    def fail(self, reason: str, line: int = 0) -> None:
        """Count a message that was not sent, and report why and, unless it is 0, which line it is."""
        self.failed += 1
        complain(f"Failed to send message: {f'line {line}: ' if line else ''}{reason}")


async def send(job: Job) -> int:
    """Send everything and return the exit code.

    Raises:
        ClientError: the producer could not be created.
    """
    tally = Tally(announce=isinstance(job.source, Text))
    code = OK
    async with connect(*job.addresses, tls=job.tls, streaming=job.key is not None) as client:
        producer = await client.producer(
            job.topic,
            name=job.producer_name,
            schema=job.schema,
            strategy=job.strategy,
            partitions=job.partitions,
            in_flight_max=job.in_flight_max,
        )
        lines = job.source if isinstance(job.source, Lines) else None
        heard = await _is_heard(client, job.topic)
        if not heard:
            complain(
                f"Warning: {job.topic} is non-reliable and has no consumer now: what is sent reaches nobody,"
                " and nothing is kept for later."
            )
        schema = job.schema
        if lines is not None and schema is None:
            schema = await client.schema(job.topic)
        with SendProgress(lines.size_bytes() if lines else None) as progress:
            try:
                await _feed(job, producer, tally, progress, schema)
                await producer.flush()
            except asyncio.CancelledError:
                code = INTERRUPTED
                with suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_S):
                        await producer.flush()
            finally:
                await producer.abort()
            tally.collect()
            seconds = progress.seconds()
        if heard and tally.sent and not await _is_heard(client, job.topic):
            complain(
                f"Warning: {job.topic} is non-reliable and had no consumer at the end: the last messages may"
                " have reached nobody, and are not kept."
            )
    if lines is not None or code == INTERRUPTED or (isinstance(job.source, Text) and job.source.count > 1):
        failed = f", {tally.failed} failed" if tally.failed else ""
        noun = "message" if tally.sent == 1 else "messages"
        complain(f"{tally.sent} {noun} sent in {seconds:.2f} s, {tally.sent / seconds:.0f} msg/s{failed}")
    if code != OK:
        return code
    if tally.lost:
        return UNREACHABLE
    return FAILED if tally.failed else OK


async def _is_heard(client: Client, topic: str) -> bool:
    """Whether what is sent now is kept or reaches a consumer, as far as the platform tells."""
    try:
        return all(info.reliable or info.consumers for info in await client.describe(topic))
    except ClientError:
        return True


async def _feed(
    job: Job, producer: Producer, tally: Tally, progress: SendProgress, schema: Schema | None
) -> None:
    """Send until nothing is left, or until nothing more can be read or sent."""
    lines = job.source if isinstance(job.source, Lines) else None
    number = 0
    try:
        async for payload in _payloads(job.source):
            number += 1
            if lines is not None and schema is not None:
                if schema.type is SchemaType.INT64:
                    payload = payload.removesuffix(b"\r")  # noqa: PLW2901 - the line of a DOS file
                try:
                    payloads.check(payload, schema.type)
                except ValueError as error:
                    tally.fail(str(error), number)
                    continue
            tally.waiting.append(
                (number if lines else 0, await producer.post(payload, job.attributes, key=job.key))
            )
            tally.collect()
            if tally.lost:
                return
            if lines is not None:
                progress.show(tally.sent, lines.read_bytes)
    except UnreadableError as error:
        tally.fail(str(error), number + 1)
    except ClientError as error:
        tally.fail(str(error), number if lines else 0)


async def _payloads(source: Text | Lines) -> AsyncIterator[bytes]:
    if isinstance(source, Lines):
        async for line in source:
            yield line
        return
    for number in range(source.count):
        if number and source.interval_s:
            await asyncio.sleep(source.interval_s)
        yield source.payload
