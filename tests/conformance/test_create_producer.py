"""CreateProducer (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.conformance.client import (
    BYTES,
    DISK,
    IN_MEMORY,
    JSON,
    PRODUCER_ALREADY_EXISTS,
    RETAIN_UNTIL_ACK,
    STRING,
    UNKNOWN_ERROR,
    Client,
    producer_request,
    strategy,
)
from tests.conformance.stubs import danube

ID_MAX = (1 << 63) - 1
SHARED_ACCESS, EXCLUSIVE_ACCESS = 0, 1
PERSON = b'{"type":"object","required":["name"]}'


async def test_the_first_call_for_a_new_topic_succeeds(client: Client, topic: str) -> None:
    answer = await client.call("CreateProducer", producer_request(topic, "first", request_id=42))
    assert (answer.request_id, answer.producer_name) == (42, "first")
    assert 1 <= answer.producer_id <= ID_MAX


async def test_the_same_name_gets_the_same_id(client: Client, other_client: Client, topic: str) -> None:
    first = await client.producer(topic, "again")
    second = await other_client.producer(topic, "again")
    assert first.producer_id == second.producer_id


async def test_another_name_or_another_topic_gets_another_id(client: Client, topic: str) -> None:
    producers = [
        await client.producer(topic, "a"),
        await client.producer(topic, "b"),
        await client.producer(topic + "x", "a"),
    ]
    assert len({producer.producer_id for producer in producers}) == 3


async def test_racing_first_calls_all_succeed_with_one_id(
    client: Client, other_client: Client, topic: str
) -> None:
    calls = [either.producer(topic, "racer") for _ in range(8) for either in (client, other_client)]
    producers = await asyncio.gather(*calls)
    assert len({producer.producer_id for producer in producers}) == 1


@pytest.mark.parametrize("missing", ["schema", "dispatch_strategy"])
async def test_a_new_topic_needs_a_schema_and_a_strategy(client: Client, topic: str, missing: str) -> None:
    absent: dict[str, Any] = {missing: None}
    refusal = await client.refused("CreateProducer", producer_request(topic, **absent))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", UNKNOWN_ERROR)
    assert missing.partition("_")[0] in refusal.message
    assert await client.partitions(topic) == []


async def test_a_topic_that_exists_needs_neither(client: Client, topic: str) -> None:
    await client.producer(topic)
    producer = await client.producer(topic, "second", schema=None, dispatch_strategy=None)
    await producer.send("fine")


@pytest.mark.parametrize("value", [2, 7, -1, 2**31 - 1])
async def test_a_strategy_that_does_not_exist_is_refused(client: Client, topic: str, value: int) -> None:
    unknown = danube.TopicDispatchStrategy(strategy=value)
    refusal = await client.refused("CreateProducer", producer_request(topic, dispatch_strategy=unknown))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", UNKNOWN_ERROR)
    assert await client.partitions(topic) == []


@pytest.mark.parametrize("value", [4, -1])
async def test_a_schema_type_that_does_not_exist_is_refused(client: Client, topic: str, value: int) -> None:
    unknown = danube.Schema(name="s", type_schema=value)
    refusal = await client.refused("CreateProducer", producer_request(topic, schema=unknown))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", UNKNOWN_ERROR)
    assert await client.partitions(topic) == []


async def test_an_access_mode_that_does_not_exist_is_refused(client: Client, topic: str) -> None:
    refusal = await client.refused("CreateProducer", producer_request(topic, producer_access_mode=2))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", UNKNOWN_ERROR)


@pytest.mark.parametrize("definition", [b"{", b'{"type": 7}', b"\xff\xff", b'{"type": "nothing"}'])
async def test_a_json_schema_that_is_none_is_refused(client: Client, topic: str, definition: bytes) -> None:
    schema = danube.Schema(name="s", type_schema=JSON, schema_data=definition)
    refusal = await client.refused("CreateProducer", producer_request(topic, schema=schema))
    assert refusal.code == "INVALID_ARGUMENT"
    assert await client.partitions(topic) == []


async def test_reliable_without_options_is_non_reliable(client: Client, topic: str) -> None:
    bare = danube.TopicDispatchStrategy(strategy=1)
    producer = await client.producer(topic, dispatch_strategy=bare)
    await producer.send("dropped, for nobody has subscribed")
    late = await client.consume(topic, "late")
    await producer.send("received")
    assert (await late.next()).payload == b"received"
    await client.producer(topic, "non-reliable is what it is", dispatch_strategy=strategy(reliable=False))


async def test_another_schema_type_is_refused_and_named(client: Client, topic: str) -> None:
    await client.producer(topic)
    schema = danube.Schema(name="string_schema", type_schema=BYTES)
    refusal = await client.refused("CreateProducer", producer_request(topic, "second", schema=schema))
    assert refusal.code == "INVALID_ARGUMENT"
    assert "schema" in refusal.message
    assert (await client.schema(topic)).type_schema == STRING


async def test_another_json_schema_is_refused_and_named(client: Client, topic: str) -> None:
    schema = danube.Schema(name="person", type_schema=JSON, schema_data=PERSON)
    await client.producer(topic, schema=schema)
    other = danube.Schema(name="person", type_schema=JSON, schema_data=b'{"type":"array"}')
    refusal = await client.refused("CreateProducer", producer_request(topic, "second", schema=other))
    assert refusal.code == "INVALID_ARGUMENT"
    assert "schema" in refusal.message
    await client.producer(topic, "the same schema is welcome", schema=schema)
    assert (await client.schema(topic)).schema_data == PERSON


@pytest.mark.parametrize(
    ("stored", "asked", "named"),
    [
        (strategy(reliable=False), strategy(reliable=True), "strategy"),
        (strategy(reliable=True), strategy(reliable=False), "strategy"),
        (strategy(reliable=True), strategy(reliable=True, segment_size=21), "segment_size"),
        (strategy(reliable=True), strategy(reliable=True, retention_policy=RETAIN_UNTIL_ACK), "retention"),
        (strategy(reliable=True), strategy(reliable=True, retention_period=60), "retention_period"),
    ],
    ids=["reliable", "non-reliable", "segment size", "retention", "retention period"],
)
async def test_another_strategy_is_refused_and_what_differs_is_named(
    client: Client, topic: str, stored: Any, asked: Any, named: str
) -> None:
    await client.producer(topic, dispatch_strategy=stored)
    refusal = await client.refused(
        "CreateProducer", producer_request(topic, "second", dispatch_strategy=asked)
    )
    assert refusal.code == "INVALID_ARGUMENT"
    assert named in refusal.message
    await client.producer(topic, "the same strategy is welcome", dispatch_strategy=stored)


async def test_the_storage_choice_does_not_count_as_a_difference(client: Client, topic: str) -> None:
    await client.producer(topic, dispatch_strategy=strategy(reliable=True, storage_backend=DISK))
    without = strategy(reliable=True, storage_backend=IN_MEMORY)
    await client.producer(topic, "from 0.2.2 on clients cannot send it", dispatch_strategy=without)


async def test_a_shared_producer_leaves_room_for_others(client: Client, topic: str) -> None:
    for name in "abc":
        await client.producer(topic, name, producer_access_mode=SHARED_ACCESS)


@pytest.mark.parametrize("second", [SHARED_ACCESS, EXCLUSIVE_ACCESS])
async def test_an_exclusive_producer_keeps_other_names_out(client: Client, topic: str, second: int) -> None:
    holder = await client.producer(topic, "holder", producer_access_mode=EXCLUSIVE_ACCESS)
    refusal = await client.refused(
        "CreateProducer", producer_request(topic, "other", producer_access_mode=second)
    )
    assert (refusal.code, refusal.error_type) == ("ALREADY_EXISTS", PRODUCER_ALREADY_EXISTS)
    again = await client.producer(topic, "holder", producer_access_mode=EXCLUSIVE_ACCESS)
    assert again.producer_id == holder.producer_id
    await again.send("still here")


async def test_exclusive_is_refused_while_others_produce(client: Client, topic: str) -> None:
    await client.producer(topic, "first")
    refusal = await client.refused(
        "CreateProducer", producer_request(topic, "second", producer_access_mode=EXCLUSIVE_ACCESS)
    )
    assert (refusal.code, refusal.error_type) == ("ALREADY_EXISTS", PRODUCER_ALREADY_EXISTS)


async def test_a_refused_producer_has_no_id(client: Client, topic: str) -> None:
    holder = await client.producer(topic, "holder", producer_access_mode=EXCLUSIVE_ACCESS)
    await client.refused("CreateProducer", producer_request(topic, "other"))
    consumer = await client.consume(topic, "subscription")
    await holder.send("one")
    assert (await consumer.next()).producer_name == "holder"


async def test_a_topic_is_not_created_beside_its_partitions_nor_partitions_beside_it(
    client: Client, topic: str
) -> None:
    parted, plain = f"{topic}-parted", f"{topic}-plain"
    await asyncio.gather(*(client.producer(f"{parted}-part-{number}", f"p{number}") for number in range(3)))
    refusal = await client.refused("CreateProducer", producer_request(parted, "beside"))
    assert refusal.message == f"topic {parted} exists already, in 3 partitions"
    assert await client.partitions(parted) == [f"{parted}-part-{number}" for number in range(3)]
    await client.producer(plain, "first")
    refusal = await client.refused("CreateProducer", producer_request(f"{plain}-part-0", "beside"))
    assert refusal.message == f"topic {plain} exists already, and not in partitions"
    assert await client.partitions(plain) == [plain]


async def test_another_partition_is_like_the_first_one(client: Client, topic: str) -> None:
    await client.producer(f"{topic}-part-0", "p")
    request = producer_request(f"{topic}-part-1", "q", dispatch_strategy=strategy(reliable=True))
    refusal = await client.refused("CreateProducer", request)
    assert refusal.message.startswith(f"{topic}-part-0 differs from what was asked for another one")
    await client.producer(f"{topic}-part-1", "q")


async def test_the_number_of_partitions_is_that_of_the_client_that_created_them(
    client: Client, other_client: Client, topic: str
) -> None:
    for number in range(2):
        await client.producer(f"{topic}-part-{number}", f"first-{number}")
    for number in range(2):
        await other_client.producer(f"{topic}-part-{number}", f"second-{number}")
    request = producer_request(f"{topic}-part-2", "second-2")
    refusal = await other_client.refused("CreateProducer", request)
    assert refusal.code == "FAILED_PRECONDITION"
    assert f"topic {topic} has 2 partitions" in refusal.message
    assert "at least 3" in refusal.message
    await client.producer(f"{topic}-part-2", "first-2")
    await other_client.producer(f"{topic}-part-2", "second-2")


async def test_two_clients_that_create_the_same_partitions_at_once_both_succeed(
    client: Client, other_client: Client, topic: str
) -> None:
    async def create(by: Client, name: str) -> None:
        for number in range(6):
            await by.producer(f"{topic}-part-{number}", f"{name}-{number}")

    await asyncio.gather(create(client, "first"), create(other_client, "second"))
    assert await client.partitions(topic) == [f"{topic}-part-{number}" for number in range(6)]
