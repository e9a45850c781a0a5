"""The work of ``peek`` and ``replay``: read messages without a subscription; print them or send them on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from danube_cli.connectivity import Connectivity
from danube_cli.outcome import FAILED, INTERRUPTED, LOST, OK, UNFIT, complain
from danube_cli.printing import Form
from danube_cli.progress import Progress
from danube_cli.sending import SETTLE_S, Tally
from danube_client import Client, Message, Producer, Schema, Start, Tls, TopicNotFound, connect
from danube_client.schema import DEFAULT_NAME

# So many messages are sent on before the outcomes are looked at.
TALLY_EVERY = 1024


@dataclass(frozen=True, slots=True)
class Job:
    """What to read.

    Attributes:
        end: the last position; None is the end of the topic.
        count_max: so many messages of each partition; None is no bound.
        form: how messages are printed.
        into: the topic that they are sent to, instead of being printed.
    """

    addresses: list[str]
    tls: Tls | None
    topic: str
    start: Start
    end: int | None
    count_max: int | None
    form: Form
    into: str | None


async def read(job: Job) -> int:
    """Read to the end and return the exit code.

    Raises:
        ClientError: the topic does not exist, or the platform cannot be read from.
        OSError: the output cannot be written.
    """
    connectivity = Connectivity()
    async with connect(*job.addresses, tls=job.tls, streaming=True) as client:
        schema = await client.schema(job.topic)
        reader = client.reader(
            job.topic,
            start=job.start,
            end_position=job.end,
            max_messages=job.count_max,
            on_event=connectivity.note,
        )
        async with reader:
            if job.into is None:
                code = await _print(reader, job.form, schema)
            else:
                code = await _send_on(client, reader, job.into, schema, connectivity)
    return LOST if code == OK and connectivity.lost else code


async def _print(messages: AsyncIterator[Message], form: Form, schema: Schema) -> int:
    code, written, count = OK, sys.stdout.buffer, 0
    async for message in messages:
        count += 1
        try:
            line = form.show(message, schema.type)
        except ValueError as error:
            complain(f"Error processing message: {error}")
            line, code = form.show_unfit(message, error), UNFIT
        written.write(line)
    written.flush()
    if not count:
        complain("No messages there.")
    return code


async def _send_on(
    client: Client, messages: AsyncIterator[Message], into: str, schema: Schema, connectivity: Connectivity
) -> int:
    tally = Tally("message", announce=False, positions=True)
    code = OK
    async with _producer(client, into, schema, connectivity) as producer:
        with Progress("sent on", None) as progress:
            try:
                number = 0
                async for message in messages:
                    number += 1
                    outcome = await producer.post(message.payload, message.attributes, key=message.key)
                    tally.waiting.append((number, outcome))
                    if not number % TALLY_EVERY:
                        tally.collect()
                        progress.show(tally.sent, 0)
                await producer.flush()
            except asyncio.CancelledError:
                code = INTERRUPTED
                with suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_S):
                        await producer.flush()
            seconds = progress.seconds()
    tally.collect()
    complain(tally.summary(seconds))
    return code or (FAILED if tally.failed else OK)


@asynccontextmanager
async def _producer(
    client: Client, topic: str, schema: Schema, connectivity: Connectivity
) -> AsyncIterator[Producer]:
    """Open a producer; a new topic gets the schema of the one that is read."""
    new_schema = None
    if schema.name != DEFAULT_NAME:
        try:
            await client.schema(topic)
        except TopicNotFound:
            new_schema = schema
    producer = await client.producer(topic, schema=new_schema, on_event=connectivity.note)
    try:
        yield producer
    finally:
        await producer.abort()
