from __future__ import annotations

import asyncio
import typing

import pytest

from danube_common.cluster.records import Topic
from danube_common.errors import (
    AlreadyExists,
    DanubeError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Refused,
    Unavailable,
)
from danube_common.model.bundle import Bundle
from danube_common.model.policies import PolicyOverrides
from danube_common.model.position import end_of_sequence
from danube_common.model.producer import AccessMode
from danube_common.wire.envelope import Done, ErrorReply
from danube_common.wire.owner import (
    OWNER,
    Acked,
    Acks,
    Attach,
    ConsumerFound,
    CreateConsumer,
    CreateProducer,
    Detach,
    FindConsumer,
    FindProducer,
    FindTopic,
    Floors,
    ListSubscriptions,
    OwnerRequest,
    ProducerFound,
    RetentionFloors,
    Subscriptions,
    TopicAcks,
    TouchProducers,
    UnknownIds,
    Unsubscribe,
    owner_subject,
)
from danube_harness.services.owner_harness import (
    EXCLUSIVE,
    FAILOVER,
    PATIENCE_S,
    SHARED,
    Gateway,
    OwnerHarness,
)
from danube_topic_owner.api.producers import PRODUCER_IDLE_S
from danube_topic_owner.api.requests import ATTACH_GRACE_S
from danube_topic_owner.bundle_owner import BundleOwner

# Who may consume


async def test_an_exclusive_subscription_has_one_consumer_at_a_time(
    house: OwnerHarness, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    first = await gateway.subscribe(topic.name, "s", name="first")
    with pytest.raises(Refused, match="first"):
        await gateway.subscribe(topic.name, "s", name="second")
    session = await gateway.attach(first)
    house.now += 2 * ATTACH_GRACE_S
    with pytest.raises(Refused, match="first"):
        await gateway.subscribe(topic.name, "s", name="second")
    await house.ask(Detach(first, session), Done)
    second = await gateway.subscribe(topic.name, "s", name="second")
    await gateway.attach(second)
    with pytest.raises(Refused, match="second"):
        await gateway.attach(first)


async def test_a_consumer_that_never_opened_its_stream_gives_its_place_up(
    house: OwnerHarness, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    await gateway.subscribe(topic.name, "s", name="first")
    house.now += ATTACH_GRACE_S
    await gateway.subscribe(topic.name, "s", name="second")


async def test_a_subscription_keeps_its_type(house: OwnerHarness, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    await gateway.subscribe(topic.name, "s", SHARED)
    with pytest.raises(Refused, match="shared"):
        await gateway.subscribe(topic.name, "s", EXCLUSIVE)


async def test_a_consumers_id_is_the_same_for_its_name_and_another_for_others(
    house: OwnerHarness, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    ids = {
        (subscription, name): await gateway.subscribe(topic.name, subscription, SHARED, name)
        for subscription in ("s", "t")
        for name in ("a", "b")
    }
    assert len(set(ids.values())) == 4
    assert await gateway.subscribe(topic.name, "t", SHARED, "a") == ids["t", "a"]
    await house.kill()
    await house.own()
    assert await gateway.subscribe(topic.name, "t", SHARED, "a") == ids["t", "a"]
    found = await house.ask(FindConsumer(ids["s", "b"]), ConsumerFound)
    assert (found.consumer_name, found.subscription, found.attached) == ("b", "s", False)


async def test_shared_consumers_take_turns(house: OwnerHarness, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    consumers = [await gateway.subscribe(topic.name, "s", SHARED, name) for name in "ab"]
    for consumer in consumers:
        await gateway.attach(consumer)
    for number in range(10):
        await house.publish(topic, str(number))
    await gateway.until(lambda: len(gateway.texts()) == 10)
    assert [len(gateway.texts(consumer)) for consumer in consumers] == [5, 5]


async def test_failover_has_one_active_consumer_and_hands_over_in_order(
    house: OwnerHarness, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    first, second = [await gateway.subscribe(topic.name, "s", FAILOVER, name) for name in "ab"]
    session = await gateway.attach(first)
    await gateway.attach(second)
    for number in range(10):
        await house.publish(topic, str(number))
    await gateway.until(lambda: len(gateway.texts()) == 10)
    assert len(gateway.texts(first)) == 10
    await gateway.ack(topic.name, "s", gateway.positions(first)[:4])
    await house.ask(Detach(first, session), Done)
    await gateway.until(lambda: len(gateway.texts(second)) == 6)
    assert gateway.texts(second) == [str(number) for number in range(4, 10)]


async def test_limits_on_consumers_and_subscriptions_are_kept(house: OwnerHarness, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    await house.topics.set_policies(
        topic.topic_name,
        PolicyOverrides(
            max_consumers_per_subscription=1, max_consumers_per_topic=2, max_subscriptions_per_topic=3
        ),
    )
    await house.settle()
    await gateway.subscribe(topic.name, "a", SHARED, "1")
    with pytest.raises(LimitExceeded, match="max_consumers_per_subscription"):
        await gateway.subscribe(topic.name, "a", SHARED, "2")
    await gateway.subscribe(topic.name, "b", SHARED, "1")
    await gateway.subscribe(topic.name, "b", SHARED, "1")
    with pytest.raises(LimitExceeded, match="max_consumers_per_topic"):
        await gateway.subscribe(topic.name, "c", SHARED, "1")
    house.now += ATTACH_GRACE_S
    await gateway.subscribe(topic.name, "c", SHARED, "1")
    with pytest.raises(LimitExceeded, match="max_subscriptions_per_topic"):
        await gateway.subscribe(topic.name, "d", SHARED, "1")
    assert len((await house.ask(ListSubscriptions(topic.name), Subscriptions)).subscriptions) == 3


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (CreateConsumer("/default/no", "s", SHARED, "c"), NotFound),
        (CreateConsumer("no name", "s", SHARED, "c"), InvalidInput),
        (CreateConsumer("/default/t", "", SHARED, "c"), InvalidInput),
        (CreateConsumer("/default/t", "s", SHARED, "a\nb"), InvalidInput),
        (CreateProducer("/default/t", "", AccessMode.SHARED), InvalidInput),
        (FindConsumer(7), NotFound),
        (FindProducer(7), NotFound),
        (Attach(7, "g", 1, 1, 1), NotFound),
        (Unsubscribe("/default/t", "no"), NotFound),
        (ListSubscriptions("/default/no"), NotFound),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_cannot_be_done_is_refused_and_changes_nothing(
    house: OwnerHarness, gateway: Gateway, request_: OwnerRequest, error: type[DanubeError]
) -> None:
    await house.topic("/default/t")
    await house.settle()
    await house.journaled()
    before = await house.journal.replay(house.bundle)
    with pytest.raises(error):
        await house.ask(request_, Done)
    await house.journaled()
    assert await house.journal.replay(house.bundle) == before


async def test_bytes_that_are_no_request_are_refused(house: OwnerHarness, gateway: Gateway) -> None:
    answer = await house.bus.request(owner_subject(house.bundle, 1), b"\xc1garbage", timeout_s=PATIENCE_S)
    assert isinstance(OWNER.decode_reply(answer), ErrorReply)


async def test_unsubscribing_forgets_the_cursor_and_needs_an_absent_consumer(
    house: OwnerHarness, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    await house.publish(topic, "m")
    await gateway.until(lambda: gateway.texts() == ["m"])
    await gateway.ack(topic.name, "s", gateway.positions())
    with pytest.raises(Refused):
        await house.ask(Unsubscribe(topic.name, "s"), Done)
    await house.ask(Detach(consumer, session), Done)
    await house.ask(Unsubscribe(topic.name, "s"), Done)
    assert (await gateway.ack(topic.name, "s", [1])).unknown == [(topic.name, "s")]
    with pytest.raises(NotFound):
        await house.ask(FindConsumer(consumer), ConsumerFound)
    await house.kill()
    await house.own()
    assert (await house.ask(ListSubscriptions(topic.name), Subscriptions)).subscriptions == []
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await gateway.until(lambda: gateway.texts() == ["m", "m"])


# Requests


def test_every_request_type_has_a_handler(owned: BundleOwner) -> None:
    assert owned.requests._handlers.keys() == set(typing.get_args(OwnerRequest))


async def test_a_topic_is_found_while_it_exists(house: OwnerHarness, owned: BundleOwner) -> None:
    topic = await house.topic("/default/t")
    await house.ask(FindTopic(topic.name), Done)
    with pytest.raises(NotFound):
        await house.ask(FindTopic("/default/other"), Done)


# Who may produce


async def create(house: OwnerHarness, topic: Topic, name: str, mode: AccessMode = AccessMode.SHARED) -> int:
    return (await house.ask(CreateProducer(topic.name, name, mode), ProducerFound)).producer_id


async def test_an_exclusive_producer_has_the_topic_while_it_lives(
    house: OwnerHarness, owned: BundleOwner
) -> None:
    topic = await house.topic("/default/t")
    only = await create(house, topic, "only", AccessMode.EXCLUSIVE)
    assert await create(house, topic, "only", AccessMode.EXCLUSIVE) == only
    with pytest.raises(AlreadyExists):
        await create(house, topic, "other")
    house.now += PRODUCER_IDLE_S - 1
    assert (await house.ask(TouchProducers([only, 99]), UnknownIds)).ids == [99]
    house.now += PRODUCER_IDLE_S - 1
    with pytest.raises(AlreadyExists):
        await create(house, topic, "other")
    house.now += 1
    other = await create(house, topic, "other")
    with pytest.raises(NotFound):
        await house.ask(FindProducer(only), ProducerFound)
    with pytest.raises(AlreadyExists):
        await create(house, topic, "only", AccessMode.EXCLUSIVE)
    assert (await house.ask(FindProducer(other), ProducerFound)).producer_name == "other"


async def test_the_limit_on_producers_counts_those_that_live(house: OwnerHarness, owned: BundleOwner) -> None:
    topic = await house.topic("/default/t")
    await house.topics.set_policies(topic.topic_name, PolicyOverrides(max_producers_per_topic=2))
    await house.settle()
    ids = [await create(house, topic, name) for name in ("a", "b")]
    with pytest.raises(LimitExceeded, match="max_producers_per_topic"):
        await create(house, topic, "c")
    assert await create(house, topic, "a") == ids[0]
    house.now += PRODUCER_IDLE_S
    await create(house, topic, "c")
    assert (await house.ask(FindProducer(ids[1]), ProducerFound)).producer_id == ids[1]


async def test_a_producer_is_answered_when_the_journal_has_it(
    house: OwnerHarness, owned: BundleOwner
) -> None:
    """Also the second of two calls for one name: its answer must not overtake the first one's record."""
    topic = await house.topic("/default/t")
    await owned.context.writer.flushed()
    await house.settle()
    gate, append = asyncio.Event(), house.journal.append

    async def slow_append(bundle: Bundle, data: bytes, *, expected_sequence: int) -> int:
        await gate.wait()
        return await append(bundle, data, expected_sequence=expected_sequence)

    house.journal.append = slow_append  # type: ignore[method-assign]
    first = asyncio.create_task(create(house, topic, "p"))
    await house.settle()
    second = asyncio.create_task(create(house, topic, "p"))
    await house.settle()
    assert not first.done()
    assert not second.done()
    gate.set()
    assert await first == await second


# What retention may delete


async def test_the_floor_of_a_topic_is_the_least_journaled_cursor(
    house: OwnerHarness, gateway: Gateway
) -> None:
    topic, other = await house.topic("/default/t"), await house.topic("/default/other")
    quick, slow = [await gateway.subscribe(topic.name, name) for name in ("quick", "slow")]
    await gateway.attach(quick)
    await gateway.attach(slow)
    await house.publish(topic, "a", "b", "c")
    await gateway.until(lambda: len(gateway.texts()) == 6)
    a, b, c = gateway.positions(quick)
    await gateway.ack(topic.name, "quick", [a, b, c])
    await gateway.ack(topic.name, "slow", [a])
    await house.journaled()
    floors = (await house.ask(RetentionFloors(), Floors)).floors
    assert floors == {topic.topic_id: a}
    assert other.topic_id not in floors
    await house.kill()
    await house.own()
    assert (await house.ask(RetentionFloors(), Floors)).floors == floors


async def test_a_subscription_with_nothing_open_holds_nothing_back(
    house: OwnerHarness, gateway: Gateway
) -> None:
    topic, quiet = await house.topic("/default/t"), await house.topic("/default/quiet")
    consumer = await gateway.subscribe(quiet.name, "s")
    await gateway.attach(consumer)
    await house.publish(quiet, "q")
    await gateway.until(lambda: gateway.texts() == ["q"])
    for text in "abc":
        await house.publish(topic, text)
    await house.settle()
    (q,) = gateway.positions()
    assert (await house.ask(RetentionFloors(), Floors)).floors == {quiet.topic_id: house_mark(quiet)}
    await gateway.ack(quiet.name, "s", [q])
    floors = (await house.ask(RetentionFloors(), Floors)).floors
    assert floors == {quiet.topic_id: end_of_sequence(4)}
    await house.kill()
    await house.own()
    floor = (await house.ask(RetentionFloors(), Floors)).floors[quiet.topic_id]
    assert floor >= q, "what was answered was journaled"


def house_mark(topic: Topic) -> int:
    """Where a subscription of a new topic begins."""
    return end_of_sequence(topic.log_floor)


async def test_what_is_not_journaled_is_no_floor(
    house: OwnerHarness, owned: BundleOwner, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await house.publish(topic, "a")
    await gateway.until(lambda: gateway.texts() == ["a"])
    await house.own()
    acks = Acks([TopicAcks(topic.name, "s", gateway.positions())])
    await house.ask(acks, Acked, epoch=1)
    with pytest.raises(Unavailable):
        await house.ask(RetentionFloors(), Floors, epoch=1)
