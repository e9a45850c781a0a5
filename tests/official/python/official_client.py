"""The official Python client, `danube-client`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc.aio
from danube import (  # type: ignore[import-untyped]
    CompatibilityMode,
    DanubeClientBuilder,
    DanubeError,
    DispatchStrategy,
    SchemaType,
    SubType,
)
from tests.official.python.client import Consumer, Kind, Message, Producer, Refused

KINDS = {
    Kind.EXCLUSIVE: SubType.EXCLUSIVE,
    Kind.SHARED: SubType.SHARED,
    Kind.FAILOVER: SubType.FAILOVER,
    Kind.KEY_SHARED: SubType.KEY_SHARED,
}


@asynccontextmanager
async def official_client(url: str) -> AsyncIterator[OfficialClient]:
    """The client; `DANUBE_TOKEN` and `DANUBE_CA` secure it."""
    builder = DanubeClientBuilder().service_url(url)
    if authority := os.environ.get("DANUBE_CA"):
        builder = builder.with_tls(authority)
    if token := os.environ.get("DANUBE_TOKEN"):
        builder = builder.with_token(token)
    yield OfficialClient(await builder.build())


class OfficialClient:
    """A :class:`~tests.official.python.client.Client`."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._registry = client.schema()

    async def produce(
        self, topic: str, *, reliable: bool = True, partitions: int = 0, subject: str = ""
    ) -> Producer:
        builder = self._client.new_producer().with_topic(topic).with_name("python")
        builder = builder.with_dispatch_strategy(
            DispatchStrategy.RELIABLE if reliable else DispatchStrategy.NON_RELIABLE
        )
        if partitions:
            builder = builder.with_partitions(partitions)
        if subject:
            builder = builder.with_schema_subject(subject)
        producer = builder.build()
        with _refusals():
            await producer.create()
        return _Producer(producer)

    async def consume(
        self, topic: str, name: str = "one", kind: Kind = Kind.EXCLUSIVE, filters: Sequence[str] = ()
    ) -> Consumer:
        builder = self._client.new_consumer().with_topic(topic).with_consumer_name(name)
        builder = builder.with_subscription("sub").with_subscription_type(KINDS[kind])
        consumer = builder.with_key_filters(list(filters)).build()
        with _refusals():
            await consumer.subscribe()
            return _Consumer(consumer, await consumer.receive())

    async def register(self, subject: str, definition: bytes) -> int:
        version = self._registry.register_schema(subject).with_type(SchemaType.AVRO)
        return int(await version.with_schema_data(definition).execute())

    async def schema(self, schema_id: int, version: int) -> bytes:
        return bytes((await self._registry.get_schema_version(schema_id, version)).schema_definition)

    async def latest(self, subject: str) -> tuple[int, bytes]:
        found = await self._registry.get_latest_schema(subject)
        return found.version, found.schema_definition

    async def versions(self, subject: str) -> list[int]:
        return list(await self._registry.list_versions(subject))

    async def compatible(self, subject: str, definition: bytes) -> tuple[bool, list[str]]:
        fits, errors = await self._registry.check_compatibility(subject, definition, SchemaType.AVRO)
        return fits, list(errors)

    async def anything_is_compatible(self, subject: str) -> bool:
        return bool((await self._registry.set_compatibility_mode(subject, CompatibilityMode.NONE))[0])

    async def enforce(self, topic: str, subject: str) -> bool:
        done, _ = await self._registry.configure_topic_schema(
            topic, subject, "enforce", enable_payload_validation=True
        )
        return bool(done)


class _Producer:
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    async def send(self, payload: bytes, attributes: Mapping[str, str] | None = None, key: str = "") -> None:
        with _refusals():
            if key:
                await self._producer.send_with_key(payload, dict(attributes or {}), key)
            else:
                await self._producer.send(payload, dict(attributes or {}))


class _Consumer:
    def __init__(self, consumer: Any, queue: asyncio.Queue[Any]) -> None:
        self._consumer = consumer
        self._queue = queue

    async def take(self, timeout_s: float) -> Message:
        whole = await asyncio.wait_for(self._queue.get(), timeout_s)
        schema = (whole.schema_id or 0, whole.schema_version or 0)
        topic = whole.msg_id.topic_name
        return Message(whole.payload, dict(whole.attributes), topic, whole.routing_key or "", schema, whole)

    async def ack(self, message: Message) -> None:
        with _refusals():
            await self._consumer.ack(message.whole)

    async def nack(self, message: Message, reason: str) -> None:
        with _refusals():
            await self._consumer.nack(message.whole, 0, reason)

    async def close(self) -> None:
        await self._consumer.close()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise Refused(error.code().name, str(error)) from error
    except DanubeError as error:
        raise Refused("", str(error)) from error
