"""Topic names and namespaces (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from tests.conformance.client import (
    INVALID_TOPIC_NAME,
    SERVICE_NOT_READY,
    TOPIC_NOT_FOUND,
    Admin,
    Client,
    consumer_request,
    producer_request,
)
from tests.conformance.stubs import danube

REQUESTS: dict[str, Callable[[str], Any]] = {
    "TopicLookup": lambda topic: danube.TopicLookupRequest(topic=topic),
    "TopicPartitions": lambda topic: danube.TopicLookupRequest(topic=topic),
    "GetSchema": lambda topic: danube.SchemaRequest(topic=topic),
    "CreateProducer": producer_request,
    "Subscribe": lambda topic: consumer_request(topic, "subscription"),
}
BAD_NAMES = [
    "",
    "topic",
    "default/topic",
    "/default",
    "/default/",
    "//",
    "//topic",
    "/default/topic/more",
    "default/topic/more",
    "/default/topic.with.dots",
    "/default/topic with spaces",
    "/default/topic:colon",
    "/default/topic\n",
    "/default/tópic\u200b",
    "/default/topic*",
    "/default/topic>",
    "/de.fault/topic",
    "/default/" + "x" * 256,
    "/default/" + "x" * 100_000,
    "/" + "n" * 256 + "/topic",
]


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_topic_name_of_another_form_is_refused_as_invalid(client: Client, method: str) -> None:
    for name in BAD_NAMES:
        refusal = await client.refused(method, REQUESTS[method](name))
        assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", INVALID_TOPIC_NAME), name[:80]


@pytest.mark.parametrize("local", ["a_b-C", "0", "-", "_", "тема", "主題9", "x" * 200])
async def test_letters_digits_underscore_and_hyphen_make_a_topic_name(client: Client, local: str) -> None:
    topic = f"/default/{local}{uuid4().hex[:8]}"
    await client.producer(topic)
    assert await client.partitions(topic) == [topic]
    assert (await client.schema(topic)).name == "string_schema"


@pytest.mark.parametrize("letter", ["x", "主", "é"])
async def test_the_longest_names_work_and_longer_ones_are_told_so(
    client: Client, admin: Admin, letter: str
) -> None:
    longest = letter * min(255, 384 // len(letter.encode()))
    unique = uuid4().hex[:8]
    namespace, local = unique + longest[: len(longest) - 8], longest
    await admin.create_namespace(namespace)
    topic = f"/{namespace}/{local}"
    producer = await client.reliable_producer(topic)
    sent = await producer.send("text")
    assert (await (await client.consume(topic, "subscription")).next()).payload == sent.payload
    refusal = await client.refused("CreateProducer", producer_request(f"/{namespace}/{local}{letter}"))
    assert refusal.error_type == INVALID_TOPIC_NAME
    assert "longer than" in refusal.message
    assert "255 characters" in refusal.message or "384 bytes" in refusal.message


async def test_names_differ_by_case(client: Client, topic: str) -> None:
    await client.producer(topic)
    other = topic.upper().replace("/DEFAULT", "/default")
    assert await client.partitions(other) == []
    producer = await client.producer(other)
    assert producer.producer_id != (await client.producer(topic)).producer_id


async def test_a_name_that_begins_like_another_is_another(client: Client, topic: str) -> None:
    await client.producer(topic + "b")
    refusal = await client.refused("TopicLookup", REQUESTS["TopicLookup"](topic))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", TOPIC_NOT_FOUND)


@pytest.mark.parametrize(
    ("method", "request_of"),
    [
        ("CreateProducer", producer_request),
        ("Subscribe", lambda topic, name: consumer_request(topic, "subscription", name)),
        ("Subscribe", lambda topic, name: consumer_request(topic, name, "consumer")),
    ],
    ids=["producer", "consumer", "subscription"],
)
@pytest.mark.parametrize("name", ["", "x" * 10_000])
async def test_an_empty_or_endless_label_is_refused(
    client: Client, topic: str, method: str, request_of: Callable[[str, str], Any], name: str
) -> None:
    await client.producer(topic)
    refusal = await client.refused(method, request_of(topic, name))
    assert refusal.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("name", ["a b", "täst/+:.", "x" * 200])
async def test_labels_are_what_users_choose(client: Client, topic: str, name: str) -> None:
    await client.producer(topic, name)
    await client.subscribe(topic, name, name)


async def test_default_and_system_exist_from_the_start(admin: Admin) -> None:
    assert {"default", "system"} <= set(await admin.namespaces())


async def test_a_topic_in_a_missing_namespace_fails_fast(client: Client, namespace: str) -> None:
    refusal = await client.refused("CreateProducer", producer_request(f"/{namespace}/topic"))
    assert refusal.code == "UNAVAILABLE"
    assert refusal.error_type != SERVICE_NOT_READY
    assert namespace in refusal.message
    assert await client.partitions(f"/{namespace}/topic") == []


async def test_a_topic_can_be_made_as_soon_as_its_namespace_is(
    client: Client, admin: Admin, namespace: str
) -> None:
    await admin.create_namespace(namespace)
    await client.producer(f"/{namespace}/topic")
    assert await client.partitions(f"/{namespace}/topic") == [f"/{namespace}/topic"]
