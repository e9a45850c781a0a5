"""The work of ``produce``: send messages, print their positions or errors."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from danube_cli import payload as payloads
from danube_cli.connectivity import Connectivity
from danube_cli.inputs.source import Source
from danube_cli.inputs.splitter import Records, UnreadableError
from danube_cli.outcome import FAILED, INTERRUPTED, OK, UNREACHABLE, complain
from danube_cli.progress import Progress
from danube_client import (
    Client,
    ClientError,
    Closed,
    Compression,
    NotReady,
    Producer,
    Retry,
    Schema,
    SchemaType,
    Strategy,
    Tls,
    Unreachable,
    connect,
)

# How long an interrupted command waits for the answers to sent messages.
SETTLE_S = 5.0
# So many failures are told one by one; more of them are only counted.
FAILURES_TOLD_MAX = 100
# Messages of one text that are sent before the outcomes are looked at.
TEXTS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Text:
    """One message to send ``count`` times, at least ``interval_s`` apart."""

    payload: bytes
    count: int
    interval_s: float

    async def __aiter__(self) -> AsyncIterator[Records]:
        """Yield the message so often, some at once if there is no interval."""
        at_once = 1 if self.interval_s else TEXTS_AT_ONCE
        for sent in range(0, self.count, at_once):
            if sent and self.interval_s:
                await asyncio.sleep(self.interval_s)
            yield [self.payload] * min(at_once, self.count - sent)


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, and where to; the fields are those of ``Client.producer``.

    Attributes:
        key_field: the field of a JSON payload that is its key.
        away_s_max: after so many seconds without the platform the command fails; None is never.
    """

    addresses: list[str]
    tls: Tls | None
    topic: str
    producer_name: str | None
    schema: Schema | None
    strategy: Strategy | None
    partitions: int | None
    in_flight_max: int | None
    attributes: dict[str, str]
    key: str | None
    key_field: str | None
    compression: Compression
    away_s_max: float | None
    source: Text | Source


@dataclass(slots=True)
class Tally:
    """Counts the outcomes of the messages, in the order in which they were sent.

    Attributes:
        noun: what a message is in the file; empty if there is no file.
        announce: print where each message is.
        positions: what a producer returns are positions, which a topic that stores nothing does not have.
        lost: the connection was lost beyond the retries.
        unanswered: the command ended without knowing what became of so many.
        waiting: the outcomes that are not counted yet, each with the number of its message.
    """

    noun: str
    announce: bool
    positions: bool
    sent: int = 0
    failed: int = 0
    unanswered: int = 0
    lost: bool = False
    waiting: deque[tuple[int, asyncio.Future[int]]] = field(default_factory=deque)

    def collect(self) -> None:
        """Count the answers that have arrived."""
        waiting = self.waiting
        if not self.announce:
            while waiting and waiting[0][1].done():
                number, outcome = waiting.popleft()
                if outcome.exception() is None:
                    self.sent += 1
                else:
                    self._count_failure(number, outcome)
            return
        while waiting and waiting[0][1].done():
            number, outcome = waiting.popleft()
            if outcome.exception() is not None:
                self._count_failure(number, outcome)
                continue
            self.sent += 1
            position = outcome.result()
            where = f" with ID: {position}" if position or not self.positions else ""
            sys.stdout.write(f"Message sent successfully{where}\n")
        sys.stdout.flush()

    def _count_failure(self, number: int, outcome: asyncio.Future[int]) -> None:
        error = outcome.exception()
        if isinstance(error, Closed):
            self.unanswered += 1
        else:
            self.fail(str(error), number)
            self.lost = self.lost or isinstance(error, (Unreachable, NotReady))

    def fail(self, reason: str, number: int = 0) -> None:
        """Count a message that was not sent, and report why and, if it is of a file, which one it is."""
        self.failed += 1
        if self.failed <= FAILURES_TOLD_MAX:
            where = f"{self.noun} {number}: " if self.noun else ""
            complain(f"Failed to send message: {where}{reason}")
        elif self.failed == FAILURES_TOLD_MAX + 1:
            complain(f"More than {FAILURES_TOLD_MAX} messages failed; the others are only counted.")

    def summary(self, seconds: float) -> str:
        """Return what became of the messages."""
        noun = "message" if self.sent == 1 else "messages"
        text = f"{self.sent} {noun} sent in {seconds:.2f} s, {self.sent / seconds:.0f} msg/s"
        if self.failed:
            text += f", {self.failed} failed"
        if self.unanswered:
            text += f", {self.unanswered} unanswered, which may be stored or not"
        return text


async def send(job: Job) -> int:
    """Send everything and return the exit code.

    Raises:
        ClientError: the producer could not be created.
    """
    source = job.source if isinstance(job.source, Source) else None
    connectivity = Connectivity()
    code = OK
    retry = Retry(reconnect_for_s=job.away_s_max)
    async with connect(*job.addresses, tls=job.tls, retry=retry, streaming=True) as client:
        producer = await client.producer(
            job.topic,
            name=job.producer_name,
            schema=job.schema,
            strategy=job.strategy,
            partitions=job.partitions,
            in_flight_max=job.in_flight_max,
            compression=job.compression,
            on_event=connectivity.note,
        )
        tally = Tally(source.splitter.noun if source else "", source is None, producer.streaming)
        heard = await _is_heard(client, job.topic)
        if not heard:
            complain(
                f"Warning: {job.topic} is non-reliable and has no consumer now: what is sent reaches nobody,"
                " and nothing is kept for later."
            )
        schema = job.schema
        if source is not None and schema is None:
            schema = await client.schema(job.topic)
        unheard = False
        with Progress("sent", source.size_bytes() if source else None) as progress:
            # An interrupt may come at any await, also behind the last message: what was sent is told.
            try:
                await _feed(job, producer, tally, progress, _preparation(job, schema))
                await producer.flush()
                tally.collect()
                seconds = progress.seconds()
                unheard = heard and bool(tally.sent) and not await _is_heard(client, job.topic)
                await producer.abort()
            except asyncio.CancelledError:
                code = INTERRUPTED
                with suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_S):
                        await producer.flush()
                seconds = progress.seconds()
                await producer.abort()
        tally.collect()
        if unheard:
            complain(
                f"Warning: {job.topic} is non-reliable and had no consumer at the end: the last messages may"
                " have reached nobody, and are not kept."
            )
        if (
            source is not None
            or code == INTERRUPTED
            or (isinstance(job.source, Text) and job.source.count > 1)
        ):
            complain(tally.summary(seconds))
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


Prepare = Callable[[bytes], tuple[bytes, str | None]]
"""Returns the payload of a message and its key. Raises ValueError if it cannot be sent."""


def _preparation(job: Job, schema: Schema | None) -> Prepare | None:
    """Return what is to be done to each message before it is sent; None is nothing."""
    kind = SchemaType.BYTES if schema is None else schema.type
    from_file, key, key_field = isinstance(job.source, Source), job.key, job.key_field
    if key_field is None and (kind is SchemaType.BYTES or not from_file):
        return None

    def prepare(payload: bytes) -> tuple[bytes, str | None]:
        if kind is SchemaType.INT64 and from_file:
            payload = payload.removesuffix(b"\r")  # the line of a DOS file
        if key_field is None:
            payloads.check(payload, kind)
            return payload, key
        if kind is not SchemaType.JSON:
            payloads.check(payload, kind)
        return payload, payloads.key_in(payload, key_field)

    return prepare


async def _feed(
    job: Job, producer: Producer, tally: Tally, progress: Progress, prepare: Prepare | None
) -> None:
    """Send until nothing is left, or until nothing more can be read or sent."""
    source = job.source if isinstance(job.source, Source) else None
    post, waiting, attributes, key = producer.post, tally.waiting, job.attributes or None, job.key
    number = 0
    try:
        async for records in job.source:
            for record in records:
                number += 1
                if isinstance(record, ValueError):
                    tally.fail(str(record), number)
                    if isinstance(record, UnreadableError):
                        return
                    continue
                payload = record
                if prepare is not None:
                    try:
                        payload, key = prepare(record)
                    except ValueError as error:
                        tally.fail(str(error), number)
                        continue
                waiting.append((number, await post(payload, attributes, key=key)))
            tally.collect()
            if tally.lost:
                return
            if source is not None:
                progress.show(tally.sent, source.read_bytes)
    except ClientError as error:
        tally.fail(str(error), number)
        tally.lost = tally.lost or isinstance(error, (Unreachable, NotReady))
