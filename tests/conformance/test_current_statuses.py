"""Answers to clients of the current generation: statuses, names in use, call orders, bad bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any
from uuid import uuid4

import grpc.aio
import pytest
import pytest_asyncio
from tests.conformance.client import Admin
from tests.conformance.test_current import (
    DEADLINE_S,
    KEY_SHARED,
    RELIABLE,
    SHARED,
    CurrentClient,
    Refused,
    read,
)

from danube_harness.platforms.standalone import Platform
from danube_proto import danube_current_pb2 as wire
from danube_proto import danube_schema_pb2 as schemas

PRODUCER, CONSUMER = wire.HealthCheckRequest.Producer, wire.HealthCheckRequest.Consumer
OK, CLOSE = wire.HealthCheckResponse.OK, wire.HealthCheckResponse.CLOSE


@pytest_asyncio.fixture
async def current(platform: Platform) -> AsyncIterator[CurrentClient]:
    connected = CurrentClient(platform.gateway_addr)
    yield connected
    await connected.close()


async def first_refusal(call: Callable[[], Awaitable[object]]) -> Refused:
    """Call until it is refused: the services follow policies and schemas in their own time."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await call()
            except Refused as refused:
                return refused


async def partitions(current: CurrentClient, topic: str) -> list[str]:
    request = wire.TopicLookupRequest(request_id=9, topic=topic)
    answer = await current.call("Discovery/TopicPartitions", request, wire.TopicPartitionsResponse)
    assert answer.request_id == 9
    return list(answer.partitions)


async def test_partitions_are_listed_and_an_unknown_topic_has_none(
    current: CurrentClient, topic: str
) -> None:
    assert await partitions(current, topic) == []
    parts = [f"{topic}-part-{number}" for number in range(3)]
    for number, part in enumerate(parts):
        await current.create(part, f"p-{number}", dispatch_strategy=RELIABLE)
    assert await partitions(current, topic) == parts


@pytest.mark.parametrize("name", ["", "no-slash", "/default", "/default/a/b", "/default/a b"])
async def test_a_bad_topic_name_is_an_invalid_argument(current: CurrentClient, name: str) -> None:
    request = wire.TopicLookupRequest(request_id=5, topic=name)
    with pytest.raises(Refused) as refused:
        await current.call("Discovery/TopicLookup", request, wire.TopicLookupResponse)
    assert refused.value.code == "INVALID_ARGUMENT"
    with pytest.raises(Refused) as refused:
        await current.create(name)
    assert refused.value.code == "INVALID_ARGUMENT"


async def test_producers_and_consumers_beyond_a_limit_are_resource_exhausted(
    current: CurrentClient, admin: Admin, topic: str
) -> None:
    await current.create(topic, "one", dispatch_strategy=RELIABLE)
    await admin.set_topic_policies(topic, max_producers_per_topic=1, max_consumers_per_topic=1)
    names = (f"more-{number}" for number in count())

    async def more() -> None:
        await current.create(topic, next(names), dispatch_strategy=RELIABLE)

    assert (await first_refusal(more)).code == "RESOURCE_EXHAUSTED"
    streams: list[Any] = []

    async def consume() -> None:
        consumer = await current.subscribe(topic, "sub", SHARED, consumer_name=next(names))
        streams.append(current.receive(consumer))
        await current.health(CONSUMER, consumer)

    assert (await first_refusal(consume)).code == "RESOURCE_EXHAUSTED"


async def test_a_producers_name_is_the_same_producer_and_a_consumers_name_takes_over(
    current: CurrentClient, platform: Platform, topic: str
) -> None:
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    assert await current.create(topic, dispatch_strategy=RELIABLE) == producer
    consumer = await current.subscribe(topic, "sub")
    first = current.receive(consumer)
    await current.send(topic, producer, b"to the first")
    await current.ack(await read(first), "sub")
    other = CurrentClient(platform.gateway_addr)
    try:
        assert await other.subscribe(topic, "sub") == consumer
        second = other.receive(consumer)
        await current.send(topic, producer, b"to the second")
        assert (await read(second)).payload == b"to the second"
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(first.read(), DEADLINE_S)
        second.cancel()
    finally:
        await other.close()


async def test_an_exclusive_producer_keeps_other_names_out_and_clients_do_not_repeat_it(
    current: CurrentClient, topic: str
) -> None:
    await current.create(topic, "holder", producer_access_mode=wire.Exclusive)
    with pytest.raises(Refused) as refused:
        await current.create(topic, "other")
    assert refused.value.code == "FAILED_PRECONDITION"


async def test_a_payload_that_breaks_the_schema_is_an_invalid_argument(
    current: CurrentClient, topic: str
) -> None:
    subject = f"s_{uuid4().hex[:12]}"
    register = schemas.RegisterSchemaRequest(subject=subject, schema_type="number")
    answer = await current.call(
        "SchemaRegistry/RegisterSchema", register, schemas.RegisterSchemaResponse, package="danube_schema"
    )
    reference = wire.SchemaReference(subject=subject, use_latest=True)
    producer = await current.create(topic, dispatch_strategy=RELIABLE, schema_ref=reference)
    configure = schemas.ConfigureTopicSchemaRequest(
        topic_name=topic, schema_subject=subject, validation_policy="enforce", enable_payload_validation=True
    )
    await current.call(
        "SchemaRegistry/ConfigureTopicSchema",
        configure,
        schemas.ConfigureTopicSchemaResponse,
        package="danube_schema",
    )
    stamp = {"schema_id": answer.schema_id, "schema_version": 1}
    refused = await first_refusal(lambda: current.send(topic, producer, b"no number", **stamp))
    assert refused.code == "INVALID_ARGUMENT"
    await current.send(topic, producer, b"42", **stamp)


@pytest.mark.parametrize(
    "fields", [{"dispatch_strategy": 7}, {"producer_access_mode": 7}, {"name": ""}], ids=str
)
async def test_a_value_that_no_client_knows_is_an_invalid_argument(
    current: CurrentClient, topic: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refused:
        await current.create(topic, **fields)
    assert refused.value.code == "INVALID_ARGUMENT"


async def test_an_unknown_subscription_type_is_refused_as_other_subscriptions_are(
    current: CurrentClient, topic: str
) -> None:
    await current.create(topic)
    with pytest.raises(Refused, match=r"subscription_type 9 is not in 0\.\.3") as refused:
        await current.subscribe(topic, "sub", 9)
    assert refused.value.code == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "method",
    [
        "danube.ProducerService/CreateProducer",
        "danube.ProducerService/SendMessage",
        "danube.ConsumerService/Subscribe",
        "danube.ConsumerService/Ack",
        "danube.ConsumerService/Nack",
        "danube.Discovery/TopicLookup",
        "danube.Discovery/TopicPartitions",
        "danube.HealthCheck/HealthCheck",
        "danube.StorageService/ListSegmentDescriptors",
        *(
            f"danube_schema.SchemaRegistry/{each.name}"
            for each in schemas.DESCRIPTOR.services_by_name["SchemaRegistry"].methods
        ),
    ],
)
@pytest.mark.parametrize(
    "data", [b"\x0a", b"\x12\xff\xff\x01a", b"\x0f\x00"], ids=["cut", "too long", "group"]
)
async def test_bytes_that_are_no_message_are_an_invalid_argument(
    current: CurrentClient, method: str, data: bytes
) -> None:
    class Raw:
        def SerializeToString(self) -> bytes:  # noqa: N802 - as messages have it
            return data

    package, _, name = method.partition(".")
    with pytest.raises(Refused) as refused:
        await current.call(name, Raw(), wire.ProducerResponse, package=package)
    assert refused.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("language", ["rust", "go", "java", "python"])
async def test_a_client_calls_in_its_order_and_its_message_arrives(
    current: CurrentClient, topic: str, language: str
) -> None:
    """Java asks for no health before 5 s, and acknowledges with numbers of its own."""
    assert await partitions(current, topic) == []
    lookup = wire.TopicLookupRequest(request_id=0 if language == "rust" else 1, topic=topic)
    with pytest.raises(Refused) as refused:  # clients pass over it, and create the topic where they are
        await current.call("Discovery/TopicLookup", lookup, wire.TopicLookupResponse)
    assert refused.value.code == "NOT_FOUND"
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    if language != "java":
        assert await current.health(PRODUCER, producer) == OK
    assert await partitions(current, topic) == [topic]
    await current.call("Discovery/TopicLookup", lookup, wire.TopicLookupResponse)
    kind = SHARED if language == "java" else KEY_SHARED
    consumer = await current.subscribe(topic, "sub", kind)
    stream = current.receive(consumer)
    if language != "java":
        assert await current.health(CONSUMER, consumer) == OK
    for payload in (b"one", b"two"):
        fields = {} if language == "java" else {"routing_key": "k"}
        await current.send(topic, producer, payload, **fields)
    first, second = await read(stream), await read(stream)
    assert (first.payload, second.payload) == (b"one", b"two")
    if language == "rust":  # fields that it does not know are dropped, the others come back
        first.msg_id.ClearField("topic_offset")
    await current.ack(first, "sub", 1 if language == "java" else first.request_id)
    if language == "java":
        await current.ack(second, "sub", 2)
    else:
        await current.nack(second, "sub", delay_ms=0, reason="again")
        again = await read(stream)
        assert (again.payload, again.msg_id) == (b"two", second.msg_id)
        await current.ack(again, "sub", again.request_id)
    stream.cancel()
    assert await current.health(CONSUMER, consumer + 1) == CLOSE
