"""The calls of the official clients, in their order and with their numbers (docs/wire/v0_2.md)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.conformance.client import (
    CLOSE,
    CONSUMER,
    OK,
    PRODUCER,
    SHARED,
    STRING,
    TOPIC_NOT_FOUND,
    Admin,
    Client,
    consumer_request,
    producer_request,
    strategy,
)
from tests.conformance.stubs import danube

from danube_harness.platforms.standalone import Platform

CONNECT = 1
HEALTH_LOOPS = 20


class RustProducer:
    """One topic or partition: one counter for all requests, from 0; sequence numbers from 0."""

    def __init__(self, client: Client, topic: str, name: str, dispatch: Any) -> None:
        self._client = client
        self._topic = topic
        self._name = name
        self._dispatch = dispatch
        self._requests = iter(range(1_000_000))
        self._sequence = iter(range(1_000_000))
        self.producer_id = 0

    async def create(self) -> None:
        request = producer_request(
            self._topic,
            self._name,
            request_id=next(self._requests),
            schema=danube.Schema(name="string_schema", type_schema=STRING),
            dispatch_strategy=self._dispatch,
        )
        answer = await self._client.call("CreateProducer", request)
        assert answer.request_id == 0
        self.producer_id = answer.producer_id
        assert await self._client.health(PRODUCER, self.producer_id) == OK

    async def send(self, payload: str) -> int:
        message = danube.StreamMessage(
            request_id=next(self._requests),
            msg_id=danube.MsgID(
                sequence_id=next(self._sequence),
                producer_id=self.producer_id,
                topic_name=self._topic,
                broker_addr=f"http://{self._client.addr}/",
            ),
            payload=payload.encode(),
            publish_time=time.time_ns() // 1_000_000,
            producer_name=self._name,
        )
        answer = await self._client.call("SendMessage", message)
        assert answer.request_id == message.request_id
        return int(answer.sequence_id)


class RustConsumer:
    """Partitions, then for each: lookup, Subscribe with request 0, health; then the streams, one by one."""

    def __init__(self, client: Client, topic: str, name: str, subscription: str, kind: int = SHARED) -> None:
        self._client = client
        self._topic = topic
        self._name = name
        self._subscription = subscription
        self._kind = kind
        self.messages: asyncio.Queue[Any] = asyncio.Queue(100)
        self._readers: list[asyncio.Task[None]] = []

    async def start(self) -> list[str]:
        partitions = await self._client.partitions(self._topic)
        assert partitions, "no partitions found"
        ids = await asyncio.gather(*(self._subscribe(partition) for partition in partitions))
        for consumer_id in ids:
            stream = self._client.receive(consumer_id, request_id=1)
            # The official client opens the next stream only when this one's headers are there.
            await stream.opened()
            self._readers.append(asyncio.ensure_future(self._read(stream)))
        return partitions

    async def stop(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _subscribe(self, partition: str) -> int:
        answer = await self._client.lookup(partition)
        assert answer.response_type == CONNECT
        request = consumer_request(partition, self._subscription, self._name, self._kind, request_id=0)
        consumer_id = (await self._client.call("Subscribe", request)).consumer_id
        assert await self._client.health(CONSUMER, consumer_id) == OK
        return int(consumer_id)

    async def _read(self, stream: Any) -> None:
        while True:
            await self.messages.put(await stream.next())

    async def receive(self) -> Any:
        async with asyncio.timeout(20):
            return await self.messages.get()


@pytest.mark.parametrize("reliable", [False, True])
async def test_the_rust_client_on_one_topic(
    client: Client, other_client: Client, topic: str, reliable: bool
) -> None:
    producer = RustProducer(client, topic, "rust_producer", strategy(reliable=reliable))
    await producer.create()
    consumer = RustConsumer(other_client, topic, "rust_consumer", "subscription")
    assert await consumer.start() == [topic]
    try:
        for number in range(20):
            assert await producer.send(f"{number}") == number
            message = await consumer.receive()
            assert message.payload == f"{number}".encode()
            assert message.msg_id.broker_addr == f"http://{client.addr}/"
            await other_client.ack(message, "subscription")
    finally:
        await consumer.stop()


@pytest.mark.parametrize("reliable", [False, True])
async def test_the_rust_client_on_partitions(
    client: Client, other_client: Client, topic: str, reliable: bool
) -> None:
    producers = [
        RustProducer(client, f"{topic}-part-{number}", f"rust-{number}", strategy(reliable=reliable))
        for number in range(3)
    ]
    for producer in producers:  # one after another, as it does
        await producer.create()
    consumer = RustConsumer(other_client, topic, "rust_consumer", "subscription")
    assert len(await consumer.start()) == 3
    try:
        for number in range(9):  # the first message goes to partition 0
            assert await producers[number % 3].send(f"{number}") == number // 3
        messages = [await consumer.receive() for _ in range(9)]
        assert sorted(int(message.payload) for message in messages) == list(range(9))
        for message in messages:
            assert message.msg_id.topic_name == f"{topic}-part-{int(message.payload) % 3}"
            await other_client.ack(message, "subscription")
    finally:
        await consumer.stop()


async def test_an_idle_partition_does_not_keep_the_rust_client_from_the_others(
    client: Client, other_client: Client, topic: str
) -> None:
    for number in range(3):
        await client.reliable_producer(f"{topic}-part-{number}")
    busy = await client.reliable_producer(f"{topic}-part-2")
    await busy.send("only here")
    consumer = RustConsumer(other_client, topic, "rust_consumer", "subscription")
    await consumer.start()
    try:
        assert (await consumer.receive()).payload == b"only here"
    finally:
        await consumer.stop()


async def test_the_go_client_on_partitions(client: Client, other_client: Client, topic: str) -> None:
    count = 4
    names = [f"{topic}-part-{number}" for number in range(count)]

    async def create(number: int) -> int:
        request = producer_request(names[number], f"go-{number}", request_id=1)
        answer = await client.call("CreateProducer", request)
        assert answer.request_id == 1
        assert await client.health(PRODUCER, answer.producer_id) == OK
        return int(answer.producer_id)

    ids = await asyncio.gather(*(create(number) for number in range(count)))
    found = await other_client.partitions(topic)
    assert sorted(found) == names
    streams = {}
    for name in found:
        await other_client.lookup(name)
        answer = await other_client.call(
            "Subscribe", consumer_request(name, "go_subscription", "go", SHARED, request_id=1)
        )
        assert answer.request_id == 1
        assert await other_client.health(CONSUMER, answer.consumer_id) == OK
        streams[name] = other_client.receive(answer.consumer_id, request_id=2)
        await streams[name].opened()
    for number in range(1, 9):  # the first message goes to partition 1
        partition = number % count
        sequence = 1 + (number - 1) // count
        message = danube.StreamMessage(
            request_id=1 + sequence,
            msg_id=danube.MsgID(
                sequence_id=sequence,
                producer_id=ids[partition],
                topic_name=names[partition],
                broker_addr=client.addr,
            ),
            payload=f"{number}".encode(),
            producer_name=f"go-{partition}",
        )
        sent = await client.call("SendMessage", message)
        assert (sent.request_id, sent.sequence_id) == (1 + sequence, sequence)
        received = await streams[names[partition]].next()
        assert received.payload == f"{number}".encode()
        assert received.msg_id.broker_addr == client.addr
        await other_client.ack(received, "go_subscription")


async def test_the_go_client_that_creates_its_producer_again_leaves_a_deleted_topic_deleted(
    client: Client, admin: Admin, topic: str
) -> None:
    go = producer_request(topic, "go", dispatch_strategy=strategy(reliable=True))
    producer = await client.call("CreateProducer", go)
    await admin.delete_topic(topic)
    assert await client.health(PRODUCER, producer.producer_id) == CLOSE
    for _ in range(10):  # before each Send, which swallows the error
        refusal = await client.refused("CreateProducer", go)
        assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", TOPIC_NOT_FOUND)
        assert topic in refusal.message
    assert topic not in await admin.topics("default")


async def test_a_deleted_topic_is_made_again_by_an_operator_or_whoever_comes_anew(
    client: Client, platform: Platform, admin: Admin, topic: str
) -> None:
    await client.producer(topic)
    for way in ("operator", "connection", "name"):
        await admin.delete_topic(topic)
        assert (await client.refused("CreateProducer", producer_request(topic))).error_type == TOPIC_NOT_FOUND
        if way == "operator":
            await admin.create_topic(topic)
        elif way == "name":
            await client.producer(topic, "another name")
        else:
            newcomer = Client(platform.gateway_addr)
            await newcomer.producer(topic)
            await newcomer.close()
        # The producer that was there before finds the topic like every other one.
        await (await client.producer(topic)).send(way)


async def test_the_go_clients_storm_of_producers_after_a_close_is_weathered(
    client: Client, admin: Admin, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    await admin.delete_topic(topic)
    assert await client.health(PRODUCER, producer.producer_id) == CLOSE
    await client.reliable_producer(topic, "somebody else")
    # From now on it creates its producer before every send and starts one more health loop each time.
    ids = set()
    consumer = None
    for number in range(HEALTH_LOOPS):
        again = await client.reliable_producer(topic)
        ids.add(again.producer_id)
        if consumer is None:
            consumer = await client.consume(topic, "sub")
        health = [client.health(PRODUCER, again.producer_id) for _ in range(number)]
        assert set(await asyncio.gather(*health)) <= {OK}
        await again.send(f"{number}")
        assert (await consumer.next()).payload == f"{number}".encode()
    assert len(ids) == 1


async def test_the_go_clients_stale_consumer_id_still_works(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    stale = await client.subscribe(topic, "sub", "go")
    stream = client.receive(stale)
    await producer.send("0")
    await client.ack(await stream.next(), "sub")
    await client.close()
    # It subscribes anew because of a CLOSE, but opens the stream with the id it had before.
    await other_client.subscribe(topic, "sub", "go")
    again = other_client.receive(stale)
    await again.opened()
    assert await other_client.health(CONSUMER, stale) == OK


async def test_a_rust_client_that_never_creates_anything_again_goes_on_after_a_pause(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = RustProducer(client, topic, "rust_producer", strategy(reliable=True))
    await producer.create()
    consumer_id = await client.subscribe(topic, "sub", "rust_consumer", SHARED)
    stream = client.receive(consumer_id)
    await producer.send("0")
    await client.ack(await stream.next(), "sub")
    await stream.cancel()
    # Only ids remain: at another gateway, without CreateProducer or Subscribe.
    message = danube.StreamMessage(
        request_id=9,
        msg_id=danube.MsgID(sequence_id=1, producer_id=producer.producer_id, topic_name=topic),
        payload=b"1",
        producer_name="rust_producer",
    )
    await other_client.call("SendMessage", message)
    assert (await other_client.receive(consumer_id).next()).payload == b"1"


async def test_the_command_line_reads_the_schema_before_it_subscribes(
    client: Client, other_client: Client, topic: str
) -> None:
    await client.producer(topic, "test_producer", schema=danube.Schema(name="my_app", type_schema=STRING))
    assert (await other_client.schema(topic)).name == "my_app"
    consumer = RustConsumer(other_client, topic, "consumer_pubsub", "my_subscription")
    await consumer.start()
    await consumer.stop()
