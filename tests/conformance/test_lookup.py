"""TopicPartitions and TopicLookup (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import asyncio

import pytest
from tests.conformance.client import STRING, TOPIC_NOT_FOUND, Admin, Client, Producer
from tests.conformance.stubs import danube

from danube_harness.platforms.standalone import Platform

CONNECT = 1


async def test_a_topic_stands_for_itself_by_the_very_name_it_was_asked_by(client: Client, topic: str) -> None:
    await client.producer(topic)
    assert await client.partitions(topic) == [topic]


async def test_a_partitioned_topic_stands_for_its_partitions(client: Client, topic: str) -> None:
    names = [f"{topic}-part-{number}" for number in range(11)]
    await asyncio.gather(*(client.producer(name, f"p-{name[-1]}") for name in reversed(names)))
    found = await client.partitions(topic)
    assert sorted(found) == sorted(names)


async def test_partitions_are_found_by_their_exact_form_never_by_prefix(client: Client, topic: str) -> None:
    strangers = ["b", "-part-", "-part-x", "-part-01", "-part-1-more", "-part--1", "_part-0", "x-part-0"]
    for suffix in strangers:
        await client.producer(topic + suffix)
    assert await client.partitions(topic) == []
    await client.producer(topic + "-part-1")
    assert await client.partitions(topic) == [topic + "-part-1"]


async def test_a_partition_is_a_topic_of_its_own(client: Client, topic: str) -> None:
    await client.producer(topic + "-part-0")
    assert await client.partitions(topic + "-part-0") == [topic + "-part-0"]
    assert (await client.lookup(topic + "-part-0")).response_type == CONNECT


async def test_an_unknown_topic_stands_for_nothing_without_an_error(client: Client, topic: str) -> None:
    assert await client.partitions(topic) == []


async def test_partitions_of_another_namespace_do_not_count(
    client: Client, admin: Admin, topic: str, namespace: str
) -> None:
    local = topic.rpartition("/")[2]
    await admin.create_namespace(namespace)
    await client.producer(f"/{namespace}/{local}-part-0")
    assert await client.partitions(topic) == []


@pytest.mark.parametrize("number", [0, 1])
async def test_lookup_always_says_connect_with_a_url_that_serves_the_topic(
    platform: Platform, client: Client, other_client: Client, topic: str, number: int
) -> None:
    producer = await client.producer(topic)
    answer = await (client, other_client)[number].lookup(topic)
    assert answer.request_id == 8
    assert answer.response_type == CONNECT
    assert answer.brokerServiceUrl.rstrip("/") == f"http://{platform.gateway_addrs[number]}"
    there = Client(answer.brokerServiceUrl.removeprefix("http://").rstrip("/"))
    try:
        await Producer(there, topic, producer.name, producer.producer_id).send(
            "through the looked-up address"
        )
    finally:
        await there.close()


@pytest.mark.parametrize("kind", ["nothing", "partitions only", "another namespace"])
async def test_lookup_of_an_unknown_topic_says_topic_not_found(
    client: Client, topic: str, namespace: str, kind: str
) -> None:
    if kind == "partitions only":
        await client.producer(topic + "-part-0")
    if kind == "another namespace":
        await client.producer(topic)
        topic = topic.replace("/default/", f"/{namespace}/")
    refusal = await client.refused("TopicLookup", danube.TopicLookupRequest(topic=topic))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", TOPIC_NOT_FOUND)


async def test_what_create_producer_made_is_found_at_once_at_another_gateway(
    client: Client, other_client: Client, topic: str
) -> None:
    for number in range(10):
        name = f"{topic}{number}"
        await client.producer(name)
        assert await other_client.partitions(name) == [name]
        assert (await other_client.lookup(name)).response_type == CONNECT
        await other_client.subscribe(name, "subscription")
        assert (await other_client.schema(name)).type_schema == STRING
