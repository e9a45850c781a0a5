"""Failure policies for clients of v0.2, which cannot refuse a message, only leave it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tests.conformance.client import EXCLUSIVE, SHARED, Client

from danube_harness.platforms.admin_calls import ask_admin, until_described
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as admin_pb
from danube_proto import danube_platform_pb2 as platform_pb

SUBSCRIPTION = "careful"


async def set_policy(platform: Platform, topic: str, **policy: int | str) -> None:
    given = {"max_redelivery_count": 5, "ack_timeout_ms": 300, "poison_policy": admin_pb.Block, **policy}
    request = admin_pb.SetSubscriptionFailurePolicyRequest(
        topic=topic,
        subscription=SUBSCRIPTION,
        failure_policy=admin_pb.SubscriptionFailurePolicy(**given),  # type: ignore[arg-type]
    )
    method = "/danube_admin.TopicAdmin/SetSubscriptionFailurePolicy"
    answer = await ask_admin([platform.admin_addr], method, request, admin_pb.SubscriptionResponse)
    assert answer.success


async def danube_admin(platform: Platform, *arguments: str) -> Any:
    endpoint = f"http://{platform.admin_addr}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "danube_admin_cli", "--endpoint", endpoint, "-o", "json", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


async def test_a_message_that_is_left_unacknowledged_comes_again(
    platform: Platform, client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    stream = await client.consume(topic, SUBSCRIPTION, kind=EXCLUSIVE)
    await set_policy(platform, topic)
    await producer.send("left")
    left = await stream.next()
    again = await stream.next()
    assert (again.payload, again.request_id) == (b"left", left.request_id)
    await client.ack(again, SUBSCRIPTION)
    await producer.send("next")
    message = await stream.next()
    while message.payload == b"left":  # it was on its way when it was acknowledged
        message = await stream.next()
    assert message.payload == b"next"


async def test_poison_goes_to_the_dead_letter_topic_and_others_go_on(
    platform: Platform, client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    stream = await client.consume(topic, SUBSCRIPTION, kind=SHARED)
    await set_policy(
        platform,
        topic,
        max_redelivery_count=1,
        poison_policy=admin_pb.DeadLetter,
        dead_letter_topic=f"{topic}_dead",
    )
    await producer.send("poison", attributes={"key": "value"})
    assert [message.payload for message in await stream.take(2)] == [b"poison"] * 2
    await producer.send("fine")
    fine = await stream.next()
    assert fine.payload == b"fine"
    await client.ack(fine, SUBSCRIPTION)
    await until_described([platform.admin_addr], topic, lambda told: told.subscriptions[0].backlog == 0)
    letter = await (await client.consume(f"{topic}_dead", "undertaker")).next()
    assert letter.payload == b"poison"
    assert letter.producer_name == fine.producer_name
    attributes = dict(letter.attributes)
    assert attributes.pop("x-original-topic-offset").isdigit()
    assert int(attributes.pop("x-original-producer-id")) == fine.msg_id.producer_id
    attributes.pop("x-original-broker-addr")
    assert attributes == {
        "key": "value",
        "x-original-topic": topic,
        "x-original-subscription": SUBSCRIPTION,
        "x-poison-policy": "DeadLetter",
        "x-delivery-attempt": "2",
        "x-failure-reason": "not acknowledged in time",
    }


async def test_dead_letters_are_looked_at_and_sent_again(
    platform: Platform, client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    stream = await client.consume(topic, SUBSCRIPTION, kind=EXCLUSIVE)
    dead = f"{topic}_dead"
    await set_policy(
        platform, topic, max_redelivery_count=0, poison_policy=admin_pb.DeadLetter, dead_letter_topic=dead
    )
    texts = ["one", "two", "three"]
    for text in texts:
        await producer.send(text, attributes={"key": text})
    await stream.take(3)
    await until_described([platform.admin_addr], topic, lambda told: told.subscriptions[0].backlog == 0)
    for _ in range(2):  # browsing takes nothing away
        found = await danube_admin(platform, "dead-letters", "browse", dead)
        assert sorted(each["payload"] for each in found) == sorted(texts)
        assert {(each["original_topic"], each["attempts"]) for each in found} == {(topic, "1")}
        assert all(each["attributes"] == {"key": each["payload"]} for each in found)
    await set_policy(platform, topic, ack_timeout_ms=0)
    assert await danube_admin(platform, "dead-letters", "redeliver", dead, "-n", "1") == {"redelivered": 1}
    assert await danube_admin(platform, "dead-letters", "redeliver", dead) == {"redelivered": 2}
    assert await danube_admin(platform, "dead-letters", "redeliver", dead) == {"redelivered": 0}
    again = await stream.take(3)
    assert sorted(message.payload.decode() for message in again) == sorted(texts)
    assert all(dict(message.attributes) == {"key": message.payload.decode()} for message in again)
    assert {message.producer_name for message in again} == {"producer"}


async def test_dead_letters_of_all_partitions_are_looked_at_and_sent_again(
    platform: Platform, client: Client, topic: str
) -> None:
    dead = f"{topic}_dead"
    await client.reliable_producer(topic)
    stream = await client.consume(topic, SUBSCRIPTION, kind=SHARED)
    partitions = platform_pb.CreatePartitionsRequest(
        topic=dead, partitions=2, schema_type="bytes", dispatch_strategy="reliable"
    )
    method = "/danube_platform.PartitionAdmin/CreatePartitions"
    await ask_admin([platform.admin_addr], method, partitions, platform_pb.CreatePartitionsResponse)
    for number, text in enumerate(["one", "two"]):
        producer = await client.reliable_producer(f"{dead}-part-{number}", name=f"failing-{number}")
        await producer.send(text, attributes={"x-original-topic": topic})
    found = await danube_admin(platform, "dead-letters", "browse", dead)
    assert [each["payload"] for each in found] == ["one", "two"]
    assert await danube_admin(platform, "dead-letters", "redeliver", dead) == {"redelivered": 2}
    assert {message.payload for message in await stream.take(2)} == {b"one", b"two"}
