from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, InvalidInput, NotFound, Refused
from danube_common.model.failure_policy import BackoffStrategy, FailurePolicy, PoisonPolicy
from danube_common.model.names import TopicName
from danube_common.model.subscription import StartPosition, SubscriptionType
from danube_common.wire.frame import decode_frame
from danube_common.wire.owner.acknowledgements import Nack
from danube_common.wire.owner.subscriptions import (
    FailurePolicyFound,
    GetFailurePolicy,
    ResetSubscription,
    SetFailurePolicy,
    Unsubscribe,
)
from danube_common.wire.owner.topics import DescribeTopic, SubscriptionDetail
from danube_harness.services.owner_harness import (
    EXCLUSIVE,
    FAILOVER,
    NON_RELIABLE,
    PATIENCE_S,
    SHARED,
    Gateway,
    OwnerHarness,
)
from danube_proto import danube_api_pb2 as api

DEAD = "/default/dead"
POLICY = FailurePolicy(
    max_redelivery_count=1,
    ack_timeout_ms=0,
    base_redelivery_delay_ms=1000,
    max_redelivery_delay_ms=9000,
    backoff_strategy=BackoffStrategy.FIXED,
)


class Consumer:
    """A topic with a subscription and a consumer that takes what comes."""

    def __init__(self, harness: OwnerHarness, gateway: Gateway, topic: Topic) -> None:
        self.harness, self.gateway, self.topic = harness, gateway, topic

    async def set_policy(self, policy: FailurePolicy) -> None:
        await self.harness.ask(SetFailurePolicy(self.topic.name, "s", policy))

    async def nack(self, text: str, *, delay_ms: int = 0, reason: str = "") -> None:
        position = {message.decode(): p for p, message in self.gateway.entries()}[text]
        nack = Nack(self.topic.name, "s", position, position, delay_ms=delay_ms, reason=reason)
        await self.harness.ask(nack)

    async def fail(self, text: str) -> None:
        """Refuse a message again and again until it does not come any more."""
        for _ in range(POLICY.max_redelivery_count + 1):
            count = self.gateway.texts().count(text)
            await self.nack(text)
            await self.later(9)
            if self.gateway.texts().count(text) == count:
                return
        raise AssertionError(f"{text} still comes")

    async def later(self, seconds: float) -> None:
        await self.harness.journaled()
        self.harness.now += seconds
        owner = self.harness.owners[self.harness.epoch]
        for subscription in owner.context.log_subscriptions():
            owner.context.dispatcher.mark_ready(subscription)
        await self.harness.settle()

    async def described(self) -> SubscriptionDetail:
        answer = await self.harness.ask(DescribeTopic(self.topic.name))
        return answer.subscriptions[0]

    async def dead_letters(self) -> list[bytes]:
        topic = await self.harness.topics.get(TopicName.parse(DEAD))
        if topic is None:
            return []
        entries = await self.harness.log.read(topic.home, 1, frames_max=1000, bytes_max=1 << 30)
        return [
            section.message(index)
            for entry in entries
            for section in decode_frame(entry.frame).sections
            if section.topic_id == topic.topic_id
            for index in range(len(section))
        ]

    async def until_dead(self, count: int) -> list[bytes]:
        async with asyncio.timeout(PATIENCE_S):
            while len(letters := await self.dead_letters()) < count:
                await self.harness.settle()
        return letters

    async def until_backlog(self, count: int) -> SubscriptionDetail:
        async with asyncio.timeout(PATIENCE_S):
            while (described := await self.described()).backlog != count:
                await self.harness.settle()
        return described


async def consumer_of(
    harness: OwnerHarness,
    gateway: Gateway,
    kind: SubscriptionType = EXCLUSIVE,
    policy: FailurePolicy = POLICY,
) -> Consumer:
    consumer = Consumer(harness, gateway, await harness.topic("/default/t"))
    consumer_id = await gateway.subscribe("/default/t", "s", kind)
    await consumer.set_policy(policy)
    await gateway.attach(consumer_id)
    return consumer


@pytest.mark.usefixtures("owner")
async def test_a_policy_is_told_and_changed(harness: OwnerHarness, gateway: Gateway) -> None:
    await harness.topic("/default/t")
    await gateway.subscribe("/default/t", "s", SHARED)
    asked = GetFailurePolicy("/default/t", "s")
    assert await harness.ask(asked) == FailurePolicyFound(FailurePolicy(), SHARED)
    await harness.ask(SetFailurePolicy("/default/t", "s", POLICY))
    assert (await harness.ask(asked)).policy == POLICY
    await harness.kill()
    await harness.own()
    assert (await harness.ask(asked)).policy == POLICY, "the next owner has it too"
    await harness.ask(Unsubscribe("/default/t", "s"))
    await gateway.subscribe("/default/t", "s", SHARED)
    assert (await harness.ask(asked)).policy == FailurePolicy(), "it is another one"


@pytest.mark.usefixtures("owner")
async def test_a_policy_that_cannot_be_kept_is_refused(harness: OwnerHarness, gateway: Gateway) -> None:
    await harness.topic("/default/t")
    await harness.topic("/default/fast", NON_RELIABLE)
    await gateway.subscribe("/default/t", "s")
    await gateway.subscribe("/default/fast", "s")
    for topic, subscription, policy, error in (
        ("/default/t", "s", FailurePolicy(poison_policy=PoisonPolicy.DEAD_LETTER), InvalidInput),
        ("/default/t", "x", POLICY, NotFound),
        ("/default/x", "s", POLICY, NotFound),
        ("/default/fast", "s", POLICY, Refused),
    ):
        with pytest.raises(error):
            await harness.ask(SetFailurePolicy(topic, subscription, policy))
    with pytest.raises(DanubeError):
        await harness.ask(Nack("/default/t", "x", 1, 1))


@pytest.mark.usefixtures("owner")
async def test_what_is_refused_comes_again_after_its_delay_and_not_before(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    consumer = await consumer_of(harness, gateway)
    await harness.publish(consumer.topic, "a", "b")
    await gateway.until(lambda: gateway.texts() == ["a", "b"])
    await consumer.nack("a", delay_ms=3000)
    await consumer.later(2.9)
    assert gateway.texts() == ["a", "b"]
    await consumer.later(0.2)
    assert gateway.texts() == ["a", "b", "a"]


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("kind", [EXCLUSIVE, FAILOVER])
async def test_in_order_a_blocked_message_holds_up_what_follows_and_says_so(
    harness: OwnerHarness, gateway: Gateway, kind: SubscriptionType
) -> None:
    consumer = await consumer_of(harness, gateway, kind)
    await harness.publish(consumer.topic, "a", "b")
    await gateway.until(lambda: gateway.texts() == ["a", "b"])
    await consumer.nack("a", reason="no such customer")
    await consumer.later(1)
    await consumer.nack("a", reason="no such customer")
    await harness.publish(consumer.topic, "c")
    await consumer.later(100)
    assert gateway.texts() == ["a", "b", "a"]
    described = await consumer.described()
    assert "failed 2 times (no such customer): it blocks what follows" in described.blocked
    assert (described.failed, described.backlog, described.unacked) == (1, 3, 1)
    # More redeliveries are allowed: it goes on.
    await consumer.set_policy(FailurePolicy(max_redelivery_count=2, ack_timeout_ms=0))
    await gateway.until(lambda: gateway.texts() == ["a", "b", "a", "a", "c"])
    assert (await consumer.described()).blocked == ""


@pytest.mark.usefixtures("owner")
async def test_in_a_shared_subscription_a_blocked_message_holds_up_nothing(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    consumer = await consumer_of(harness, gateway, SHARED)
    await harness.publish(consumer.topic, "a", "b")
    await gateway.until(lambda: gateway.texts() == ["a", "b"])
    await consumer.fail("a")
    await harness.publish(consumer.topic, "c")
    await gateway.until(lambda: "c" in gateway.texts())
    assert "1 messages are not delivered again" in (await consumer.described()).blocked
    position = gateway.positions()[0]
    await gateway.ack("/default/t", "s", [position])
    assert (await consumer.described()).blocked == "", "an acknowledgement ends it"


@pytest.mark.usefixtures("owner")
async def test_drop_acknowledges_poison(harness: OwnerHarness, gateway: Gateway) -> None:
    policy = FailurePolicy(max_redelivery_count=1, ack_timeout_ms=0, poison_policy=PoisonPolicy.DROP)
    consumer = await consumer_of(harness, gateway, EXCLUSIVE, policy)
    await harness.publish(consumer.topic, "a", "b")
    await gateway.until(lambda: gateway.texts() == ["a", "b"])
    await consumer.fail("a")
    described = await consumer.described()
    assert (described.backlog, described.failed, described.blocked) == (1, 0, "")
    assert described.mark_delete == gateway.positions()[0]


@pytest.mark.usefixtures("owner")
async def test_counts_survive_the_owners_death(harness: OwnerHarness, gateway: Gateway) -> None:
    consumer = await consumer_of(harness, gateway)
    await harness.publish(consumer.topic, "a", "b")
    await gateway.until(lambda: gateway.texts() == ["a", "b"])
    await consumer.nack("a")
    await harness.journaled()
    await harness.kill()
    await harness.own()
    consumer_id = await gateway.subscribe("/default/t", "s")
    await gateway.attach(consumer_id)
    await gateway.until(lambda: gateway.texts() == ["a", "b", "a", "b"])
    await consumer.nack("a")
    await harness.journaled()
    assert "failed 2 times" in (await consumer.described()).blocked
    await harness.kill()
    await harness.own()
    await gateway.attach(await gateway.subscribe("/default/t", "s"))
    await consumer.later(100)
    assert gateway.texts() == ["a", "b", "a", "b"], "it is poison, and the next owner knows"
    await harness.ask(ResetSubscription("/default/t", "s", StartPosition()))
    await gateway.attach(await gateway.subscribe("/default/t", "s"))
    await gateway.until(lambda: gateway.texts()[4:] == ["a", "b"])


def dead_letter_policy(topic: str = DEAD) -> FailurePolicy:
    return FailurePolicy(
        max_redelivery_count=1,
        ack_timeout_ms=0,
        dead_letter_topic=topic,
        poison_policy=PoisonPolicy.DEAD_LETTER,
    )


def stream_message(text: str) -> bytes:
    msg_id = api.MsgID(sequence_id=4, producer_id=77, topic_name="/default/t", broker_addr="http://b:1")
    message = api.StreamMessage(
        msg_id=msg_id,
        payload=text.encode(),
        producer_name="p",
        attributes={"a": "b", "x-failure-reason": "before"},
        schema_id=5,
        schema_version=2,
        routing_key="key",
    )
    return message.SerializeToString()


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("kind", [EXCLUSIVE, SHARED, SubscriptionType.KEY_SHARED])
async def test_a_count_that_a_consumer_was_told_outlives_an_owner_that_dies_while_its_journal_stalls(
    harness: OwnerHarness, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, kind: SubscriptionType
) -> None:
    consumer = await consumer_of(
        harness, gateway, kind, msgspec.structs.replace(POLICY, max_redelivery_count=9)
    )
    await harness.publish(consumer.topic, "fails", "is acknowledged")
    await gateway.until(lambda: len(gateway.texts()) == 2)
    await gateway.ack(consumer.topic.name, "s", gateway.positions()[1:])
    await consumer.nack("fails")
    await consumer.later(9)
    assert told(gateway) == [0, 1]

    async def hang(*_: object, **__: object) -> int:
        await asyncio.Event().wait()
        return 0

    with monkeypatch.context() as stalled:
        stalled.setattr(harness.journal, "append", hang)
        await consumer.nack("fails")
        await harness.settle()
        harness.now += 9
        if kind is SHARED:
            await harness.publish(consumer.topic, "is new")
            await gateway.until(lambda: gateway.texts()[-1] == "is new")
            await gateway.ack(consumer.topic.name, "s", gateway.positions()[-1:])
        for subscription in harness.owners[harness.epoch].context.log_subscriptions():
            harness.owners[harness.epoch].context.dispatcher.mark_ready(subscription)
        await harness.settle()
        await harness.kill()
    await harness.own()
    await gateway.attach(await gateway.subscribe(consumer.topic.name, "s", kind))
    await gateway.until(lambda: gateway.deliveries[-1].epoch == 2)
    assert told(gateway) == sorted(told(gateway)), "nobody is told less than before"
    assert told(gateway) == [0, 1, 1], "and nothing came again that was not journaled"


def told(gateway: Gateway) -> list[int]:
    """How often the first message had failed, each time that it came."""
    first = gateway.positions()[0]
    came = [each for each in gateway.deliveries if first in {position for position, _ in each.entries()}]
    return [dict(each.failures).get(first, 0) for each in came]


@pytest.mark.usefixtures("owner")
async def test_dead_letters_keep_the_message_and_tell_where_it_failed(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    consumer = await consumer_of(harness, gateway, EXCLUSIVE, dead_letter_policy())
    message = stream_message("payload")
    await harness.publish_bytes(consumer.topic, message)
    await gateway.until(lambda: len(gateway.deliveries) == 1)
    (position,) = gateway.positions()
    for _ in range(2):
        nack = Nack("/default/t", "s", position, position, reason="no such customer")
        await harness.ask(nack)
        await consumer.later(9)
    (data,) = await consumer.until_dead(1)
    letter = api.StreamMessage.FromString(data)
    assert dict(letter.attributes) == {
        "a": "b",
        "x-original-topic": "/default/t",
        "x-original-subscription": "s",
        "x-original-topic-offset": "0",
        "x-original-producer-id": "77",
        "x-original-broker-addr": "http://b:1",
        "x-poison-policy": "DeadLetter",
        "x-delivery-attempt": "2",
        "x-failure-reason": "no such customer",
    }
    assert (letter.payload, letter.producer_name, letter.msg_id.producer_id) == (b"payload", "p", 77)
    assert letter.msg_id.topic_name == DEAD, "clients acknowledge it there"
    assert (letter.schema_id, letter.schema_version, letter.routing_key) == (5, 2, "key")
    topic = await harness.topics.require(TopicName.parse(DEAD))
    assert topic.strategy.is_reliable
    await consumer.until_backlog(0)


@pytest.mark.usefixtures("owner")
async def test_dead_letters_that_cannot_be_stored_wait_and_say_so(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    consumer = await consumer_of(harness, gateway, EXCLUSIVE, dead_letter_policy("/nowhere/dead"))
    await harness.publish(consumer.topic, "a", "b")
    await gateway.until(lambda: gateway.texts() == ["a", "b"])
    await consumer.fail("a")
    described = await consumer.described()
    assert "namespace 'nowhere' does not exist" in described.blocked
    assert (described.backlog, described.failed) == (2, 1)
    await consumer.set_policy(dead_letter_policy())
    await consumer.until_dead(1)
    assert (await consumer.until_backlog(1)).blocked == ""


@pytest.mark.usefixtures("owner")
async def test_dead_letters_that_take_long_delay_no_other_subscription(
    harness: OwnerHarness, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = await consumer_of(harness, gateway, EXCLUSIVE, dead_letter_policy())
    quick = Consumer(harness, gateway, await harness.topic("/default/quick"))
    quick_id = await gateway.subscribe("/default/quick", "s")
    policy = FailurePolicy(max_redelivery_count=1, ack_timeout_ms=0, poison_policy=PoisonPolicy.DROP)
    await quick.set_policy(policy)
    await gateway.attach(quick_id)
    await harness.publish(slow.topic, "slow")
    await harness.publish(quick.topic, "quick")
    await gateway.until(lambda: sorted(gateway.texts()) == ["quick", "slow"])
    going_on = asyncio.Event()
    append = harness.log.append

    async def wait(*args: Any, **more: Any) -> Any:
        await going_on.wait()
        return await append(*args, **more)

    monkeypatch.setattr(harness.log, "append", wait)
    await slow.fail("slow")
    await quick.fail("quick")
    await quick.until_backlog(0)
    assert (await slow.described()).backlog == 1
    going_on.set()
    await slow.until_backlog(0)


@pytest.mark.usefixtures("owner")
async def test_an_owner_that_dies_between_dead_letter_and_acknowledgement_loses_and_repeats_nothing(
    harness: OwnerHarness, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = await consumer_of(harness, gateway)
    await harness.publish(consumer.topic, "a", "b", "c")
    await gateway.until(lambda: gateway.texts() == ["a", "b", "c"])
    await consumer.fail("a")
    await harness.journaled()

    async def hang(*_: object, **__: object) -> int:
        await asyncio.Event().wait()
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(harness.journal, "append", hang)
        setting = asyncio.create_task(consumer.set_policy(dead_letter_policy()))
        await consumer.until_dead(1)
        await harness.kill()
        setting.cancel()
    await harness.own()
    await gateway.attach(await gateway.subscribe("/default/t", "s"))
    await consumer.until_backlog(3)
    await consumer.set_policy(dead_letter_policy())
    await consumer.until_backlog(2)
    assert len(await consumer.dead_letters()) == 1
