"""The policies that are set through `danube_platform.PolicyAdmin` are enforced."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from tests.conformance.client import (
    FAILOVER,
    SERVICE_NOT_READY,
    SHARED,
    Admin,
    Client,
    Refusal,
    consumer_request,
    new_topic,
    producer_request,
)
from tests.conformance.stubs import danube_admin, danube_platform
from tests.conformance.tables import MAX_MESSAGE_BYTES, POLICY_NAMES

V0_2_DEFAULTS = dict.fromkeys(POLICY_NAMES, 0) | {"max_message_size": MAX_MESSAGE_BYTES}
DEFAULTS = V0_2_DEFAULTS | {"max_retained_mb": 0}
"""As the platform's own methods tell them."""
RATE = 100
"""Messages a second; a burst of one second is let through."""


@pytest.fixture
async def limited(admin: Admin, namespace: str) -> Any:
    """Sets policies of a namespace of the test's own and gives the name of a topic in it."""
    await admin.create_namespace(namespace)

    async def limit(**policies: int) -> str:
        await admin.set_namespace_policies(namespace, **policies)
        return f"/{namespace}/topic"

    return limit


def check_exhausted(refusal: Refusal, limit: str) -> None:
    assert refusal.code == "RESOURCE_EXHAUSTED", str(refusal)
    assert limit in refusal.message
    assert refusal.error_type != SERVICE_NOT_READY


async def policies_of(admin: Admin, topic: str) -> dict[str, int]:
    answer = await admin.call("GetTopicPolicies", danube_platform.GetTopicPoliciesRequest(topic=topic))
    found: dict[str, int] = json.loads(answer.policies)
    return found


async def test_max_producers_per_topic(client: Client, limited: Any) -> None:
    topic = await limited(max_producers_per_topic=2)
    first = await client.producer(topic, "a")
    await client.producer(topic, "b")
    refusal = await client.refused("CreateProducer", producer_request(topic, "c"))
    check_exhausted(refusal, "max_producers_per_topic")
    assert (await client.producer(topic, "a")).producer_id == first.producer_id
    await client.producer(topic + "2", "c")


async def test_max_subscriptions_per_topic(client: Client, limited: Any) -> None:
    topic = await limited(max_subscriptions_per_topic=2)
    await client.producer(topic)
    for name in "ab":
        await client.consume(topic, name, kind=SHARED)
    refusal = await client.refused("Subscribe", consumer_request(topic, "c", kind=SHARED))
    check_exhausted(refusal, "max_subscriptions_per_topic")
    await client.consume(topic, "a", "another consumer", SHARED)


async def test_max_consumers_per_topic(client: Client, limited: Any) -> None:
    topic = await limited(max_consumers_per_topic=3)
    await client.producer(topic)
    await client.consume(topic, "a", "1", SHARED)
    await client.consume(topic, "a", "2", SHARED)
    await client.consume(topic, "b", "1", FAILOVER)
    for subscription, kind in (("a", SHARED), ("b", FAILOVER), ("c", SHARED)):
        refusal = await client.refused("Subscribe", consumer_request(topic, subscription, "9", kind))
        check_exhausted(refusal, "max_consumers_per_topic")
    await client.consume(topic, "a", "1", SHARED)


async def test_max_consumers_per_subscription(client: Client, limited: Any) -> None:
    topic = await limited(max_consumers_per_subscription=2)
    await client.producer(topic)
    await client.consume(topic, "a", "1", SHARED)
    await client.consume(topic, "a", "2", SHARED)
    refusal = await client.refused("Subscribe", consumer_request(topic, "a", "3", SHARED))
    check_exhausted(refusal, "max_consumers_per_subscription")
    await client.consume(topic, "b", "3", SHARED)
    await client.consume(topic, "a", "2", SHARED)


async def test_max_message_size(client: Client, limited: Any) -> None:
    topic = await limited(max_message_size=1000)
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    await producer.send(bytes(1000))
    refusal = await producer.refused(bytes(1001))
    check_exhausted(refusal, "max_message_size")
    assert "1000" in refusal.message
    await producer.send(b"last")
    assert [len(message.payload) for message in await consumer.take(2)] == [1000, 4]


@pytest.mark.parametrize("reliable", [False, True])
async def test_max_publish_rate(client: Client, limited: Any, reliable: bool) -> None:
    topic = await limited(max_publish_rate=RATE)
    producer = await (client.reliable_producer(topic) if reliable else client.producer(topic))
    messages = [producer.message(b"x") for _ in range(3 * RATE)]
    started = time.monotonic()
    answers = await asyncio.gather(
        *(client.call("SendMessage", message) for message in messages), return_exceptions=True
    )
    refusals = [answer for answer in answers if isinstance(answer, BaseException)]
    for refusal in refusals:
        assert isinstance(refusal, Refusal)
        check_exhausted(refusal, "max_publish_rate")
    accepted = len(answers) - len(refusals)
    assert accepted >= 1
    assert accepted <= RATE * (1.2 + time.monotonic() - started), "faster than the rate and a burst of 1 s"


@pytest.mark.parametrize("policy", ["max_dispatch_rate", "max_subscription_dispatch_rate"])
async def test_dispatch_is_slowed_down_to_its_rate(client: Client, limited: Any, policy: str) -> None:
    topic = await limited(**{policy: RATE})
    producer = await client.reliable_producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    await asyncio.gather(*(client.call("SendMessage", producer.message(b"x")) for _ in range(2 * RATE)))
    stream = client.receive(consumer_id)
    messages = await stream.take(1)
    started = time.monotonic()
    messages += await stream.take(2 * RATE - 1)
    numbers = [message.msg_id.sequence_id for message in messages]
    assert sorted(numbers) == list(range(2 * RATE)), "slowed down, not thinned out"
    assert time.monotonic() - started >= 0.8, "200 messages at 100/s with a burst of 1 s"


async def test_non_reliable_dispatch_keeps_to_its_rate(client: Client, limited: Any) -> None:
    topic = await limited(max_dispatch_rate=RATE)
    producer = await client.producer(topic)
    stream = await client.consume(topic, "sub")
    started = time.monotonic()
    await asyncio.gather(*(client.call("SendMessage", producer.message(b"x")) for _ in range(2 * RATE)))
    await stream.take(RATE + RATE // 2)
    assert time.monotonic() - started >= 0.4, "150 messages at 100/s with a burst of 1 s"


async def test_a_change_keeps_what_it_does_not_name_unless_it_clears_first(
    client: Client, admin: Admin, topic: str
) -> None:
    await client.producer(topic)
    await admin.set_topic_policies(topic, max_message_size=2000, max_publish_rate=5)
    await admin.set_topic_policies(topic, max_publish_rate=6)
    changed = {"max_message_size": 2000, "max_publish_rate": 6}
    assert await policies_of(admin, topic) == DEFAULTS | changed
    clearing = danube_platform.SetTopicPoliciesRequest(
        topic=topic, policies=danube_platform.Policies(max_publish_rate=7), clear=True
    )
    answer = await admin.call("SetTopicPolicies", clearing)
    assert json.loads(answer.policies) == DEFAULTS | {"max_publish_rate": 7}
    assert await policies_of(admin, topic) == DEFAULTS | {"max_publish_rate": 7}


async def test_a_topics_own_policy_wins_over_its_namespaces(
    client: Client, admin: Admin, limited: Any
) -> None:
    topic = await limited(max_message_size=1000, max_producers_per_topic=7)
    await client.producer(topic)
    await admin.set_topic_policies(topic, max_message_size=2000)
    assert await policies_of(admin, topic) == DEFAULTS | {
        "max_message_size": 2000,
        "max_producers_per_topic": 7,
    }


async def test_without_policies_the_defaults_are_in_force(client: Client, admin: Admin, topic: str) -> None:
    await client.producer(topic)
    assert await policies_of(admin, topic) == DEFAULTS


async def test_a_changed_policy_takes_effect_on_a_topic_in_use(
    client: Client, admin: Admin, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    await producer.send(bytes(100))
    await admin.set_topic_policies(topic, max_message_size=50)
    async with asyncio.timeout(5):
        while True:
            try:
                await producer.send(bytes(100))
            except Refusal as refusal:
                check_exhausted(refusal, "max_message_size")
                break
    await producer.send(bytes(50))


@pytest.mark.parametrize(
    ("method", "request_of"),
    [
        ("GetTopicPolicies", lambda name: danube_platform.GetTopicPoliciesRequest(topic=f"/default/{name}")),
        (
            "SetTopicPolicies",
            lambda name: danube_platform.SetTopicPoliciesRequest(
                topic=f"/default/{name}", policies=danube_platform.Policies(max_publish_rate=1)
            ),
        ),
        (
            "SetNamespacePolicies",
            lambda name: danube_platform.SetNamespacePoliciesRequest(
                namespace=name, policies=danube_platform.Policies(max_publish_rate=1)
            ),
        ),
    ],
)
async def test_policies_of_what_does_not_exist_are_not_found(
    admin: Admin, namespace: str, method: str, request_of: Any
) -> None:
    refusal = await admin.refused(method, request_of(namespace))
    assert refusal.code == "NOT_FOUND"


async def test_a_limit_no_platform_can_keep_is_refused(client: Client, admin: Admin, topic: str) -> None:
    await client.producer(topic)
    request = danube_platform.SetTopicPoliciesRequest(
        topic=topic, policies=danube_platform.Policies(max_message_size=(1 << 32) - 1)
    )
    refusal = await admin.refused("SetTopicPolicies", request)
    assert refusal.code == "INVALID_ARGUMENT"
    assert "max_message_size" in refusal.message
    assert await policies_of(admin, topic) == DEFAULTS


async def test_a_namespace_made_by_the_admin_has_the_defaults(admin: Admin, namespace: str) -> None:
    await admin.create_namespace(namespace)
    answer = await admin.call("GetNamespacePolicies", danube_admin.NamespaceRequest(name=namespace))
    assert json.loads(answer.policies) == V0_2_DEFAULTS
    assert tuple(json.loads(answer.policies)) == POLICY_NAMES
    await admin.call("CreateTopic", new_topic(f"/{namespace}/topic"))
    assert await policies_of(admin, f"/{namespace}/topic") == DEFAULTS
