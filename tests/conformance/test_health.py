"""HealthCheck, and producer and consumer ids of a deleted topic (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import pytest
from tests.conformance.client import (
    CLOSE,
    CONSUMER,
    OK,
    PRODUCER,
    SERVICE_NOT_READY,
    TOPIC_NOT_FOUND,
    UNKNOWN_ERROR,
    Admin,
    Client,
)
from tests.conformance.stubs import danube


async def test_known_ids_are_ok(client: Client, other_client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    for asking in (client, other_client):
        assert await asking.health(PRODUCER, producer.producer_id) == OK
        assert await asking.health(CONSUMER, consumer_id) == OK


@pytest.mark.parametrize("unknown", [0, 1, 4242424242424242, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("client_type", [PRODUCER, CONSUMER])
async def test_unknown_ids_are_close_and_no_error(client: Client, client_type: int, unknown: int) -> None:
    assert await client.health(client_type, unknown) == CLOSE


async def test_an_id_counts_for_its_own_kind_only(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    assert await client.health(CONSUMER, producer.producer_id) == CLOSE
    assert await client.health(PRODUCER, consumer_id) == CLOSE


async def test_a_consumer_without_a_stream_is_ok(client: Client, topic: str) -> None:
    await client.producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    stream = client.receive(consumer_id)
    await stream.opened()
    await stream.cancel()
    assert await client.health(CONSUMER, consumer_id) == OK


@pytest.mark.parametrize("value", [2, -1, 2**31 - 1])
async def test_another_kind_of_client_is_refused(client: Client, value: int) -> None:
    refusal = await client.refused("HealthCheck", danube.HealthCheckRequest(client=value, id=1))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", UNKNOWN_ERROR)


@pytest.mark.parametrize("reliable", [False, True])
async def test_deleting_a_topic_closes_its_ids_and_ends_its_streams_at_every_gateway(
    client: Client, other_client: Client, admin: Admin, topic: str, reliable: bool
) -> None:
    producer = await (client.reliable_producer(topic) if reliable else client.producer(topic))
    consumers = []
    for number, there in enumerate((client, other_client)):
        consumer_id = await there.subscribe(topic, f"sub{number}")
        stream = there.receive(consumer_id)
        await stream.opened()
        consumers.append((consumer_id, stream))
    await producer.send("before")
    for _consumer_id, stream in consumers:
        assert (await stream.next()).payload == b"before"
    await admin.delete_topic(topic)
    for consumer_id, stream in consumers:
        await stream.ended()
        for asked in (client, other_client):
            assert await asked.health(CONSUMER, consumer_id) == CLOSE
            assert await asked.health(PRODUCER, producer.producer_id) == CLOSE
    refusal = await producer.refused("after")
    assert refusal.code in {"NOT_FOUND", "INTERNAL"}
    assert refusal.error_type != SERVICE_NOT_READY
    for asked in (client, other_client):
        refusal = await asked.refused("TopicLookup", danube.TopicLookupRequest(topic=topic))
        assert refusal.error_type == TOPIC_NOT_FOUND
        assert await asked.partitions(topic) == []


async def test_a_topic_made_again_is_another_one(client: Client, admin: Admin, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    await producer.send("of the first")
    await consumer.next()
    await admin.delete_topic(topic)
    again = await client.reliable_producer(topic, "another")
    stream = await client.consume(topic, "sub")
    await again.send("of the second")
    assert (await stream.next()).payload == b"of the second"
    assert await client.health(PRODUCER, again.producer_id) == OK
