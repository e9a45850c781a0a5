"""Failure policies for clients of v0.2, which cannot refuse a message, only leave it."""

from __future__ import annotations

from tests.conformance.client import EXCLUSIVE, SHARED, Client

from danube_harness.platforms.admin_calls import ask_admin, until_described
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as admin_pb

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
