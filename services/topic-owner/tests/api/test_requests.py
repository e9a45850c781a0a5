from __future__ import annotations

import asyncio
import typing
from typing import Any

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
from danube_common.model.strategy import Strategy
from danube_common.wire.envelope import ErrorReply, Request
from danube_common.wire.owner.acknowledgements import Acks, TopicAcks, ack_ranges
from danube_common.wire.owner.producers import (
    CreateProducer,
    FindProducer,
    TouchProducers,
)
from danube_common.wire.owner.protocol import OWNER, OwnerRequest, owner_subject
from danube_common.wire.owner.sessions import Attach, CreateConsumer, Detach, FindConsumer
from danube_common.wire.owner.subscriptions import (
    ListSubscriptions,
    LossTotals,
    TellLosses,
    Unsubscribe,
)
from danube_common.wire.owner.topics import FindTopic, RetentionFloors
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
from danube_topic_owner.journal.events import MessagesLost

# Who may consume


async def test_an_exclusive_subscription_has_one_consumer_at_a_time(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    first = await gateway.subscribe(topic.name, "s", name="first")
    with pytest.raises(Refused, match="first"):
        await gateway.subscribe(topic.name, "s", name="second")
    session = await gateway.attach(first)
    harness.now += 2 * ATTACH_GRACE_S
    with pytest.raises(Refused, match="first"):
        await gateway.subscribe(topic.name, "s", name="second")
    await harness.ask(Detach(first, session))
    second = await gateway.subscribe(topic.name, "s", name="second")
    await gateway.attach(second)
    with pytest.raises(Refused, match="second"):
        await gateway.attach(first)


async def test_a_consumer_that_never_opened_its_stream_gives_its_place_up(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.subscribe(topic.name, "s", name="first")
    harness.now += ATTACH_GRACE_S
    await gateway.subscribe(topic.name, "s", name="second")


async def test_a_subscription_keeps_its_type(harness: OwnerHarness, gateway: Gateway) -> None:
    topic = await harness.topic("/default/t")
    await gateway.subscribe(topic.name, "s", SHARED)
    with pytest.raises(Refused, match="shared"):
        await gateway.subscribe(topic.name, "s", EXCLUSIVE)


async def test_a_consumers_id_is_the_same_for_its_name_and_another_for_others(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    ids = {
        (subscription, name): await gateway.subscribe(topic.name, subscription, SHARED, name)
        for subscription in ("s", "t")
        for name in ("a", "b")
    }
    assert len(set(ids.values())) == 4
    assert await gateway.subscribe(topic.name, "t", SHARED, "a") == ids["t", "a"]
    await harness.kill()
    await harness.own()
    assert await gateway.subscribe(topic.name, "t", SHARED, "a") == ids["t", "a"]
    found = await harness.ask(FindConsumer(ids["s", "b"]))
    assert (found.consumer_name, found.subscription, found.attached) == ("b", "s", False)


async def test_shared_consumers_take_turns(harness: OwnerHarness, gateway: Gateway) -> None:
    topic = await harness.topic("/default/t")
    consumers = [await gateway.subscribe(topic.name, "s", SHARED, name) for name in "ab"]
    for consumer in consumers:
        await gateway.attach(consumer)
    for number in range(10):
        await harness.publish(topic, str(number))
    await gateway.until(lambda: len(gateway.texts()) == 10)
    assert [len(gateway.texts(consumer)) for consumer in consumers] == [5, 5]


async def test_failover_has_one_active_consumer_and_hands_over_in_order(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    first, second = [await gateway.subscribe(topic.name, "s", FAILOVER, name) for name in "ab"]
    session = await gateway.attach(first)
    await gateway.attach(second)
    for number in range(10):
        await harness.publish(topic, str(number))
    await gateway.until(lambda: len(gateway.texts()) == 10)
    assert len(gateway.texts(first)) == 10
    await gateway.ack(topic.name, "s", gateway.positions(first)[:4])
    await harness.ask(Detach(first, session))
    await gateway.until(lambda: len(gateway.texts(second)) == 6)
    assert gateway.texts(second) == [str(number) for number in range(4, 10)]


async def test_limits_on_consumers_and_subscriptions_are_kept(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await harness.topics.set_policies(
        topic.topic_name,
        PolicyOverrides(
            max_consumers_per_subscription=1, max_consumers_per_topic=2, max_subscriptions_per_topic=3
        ),
    )
    await harness.settle()
    await gateway.subscribe(topic.name, "a", SHARED, "1")
    with pytest.raises(LimitExceeded, match="max_consumers_per_subscription"):
        await gateway.subscribe(topic.name, "a", SHARED, "2")
    await gateway.subscribe(topic.name, "b", SHARED, "1")
    await gateway.subscribe(topic.name, "b", SHARED, "1")
    with pytest.raises(LimitExceeded, match="max_consumers_per_topic"):
        await gateway.subscribe(topic.name, "c", SHARED, "1")
    harness.now += ATTACH_GRACE_S
    await gateway.subscribe(topic.name, "c", SHARED, "1")
    with pytest.raises(LimitExceeded, match="max_subscriptions_per_topic"):
        await gateway.subscribe(topic.name, "d", SHARED, "1")
    assert len((await harness.ask(ListSubscriptions(topic.name))).subscriptions) == 3


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
    harness: OwnerHarness, gateway: Gateway, request_: Request[Any], error: type[DanubeError]
) -> None:
    await harness.topic("/default/t")
    await harness.settle()
    await harness.journaled()
    before = [record async for record in harness.journal.replay(harness.bundle)]
    with pytest.raises(error):
        await harness.ask(request_)
    await harness.journaled()
    assert [record async for record in harness.journal.replay(harness.bundle)] == before


async def test_bytes_that_are_no_request_are_refused(harness: OwnerHarness, gateway: Gateway) -> None:
    answer = await harness.bus.request(owner_subject(harness.bundle, 1), b"\xc1garbage", timeout_s=PATIENCE_S)
    assert isinstance(OWNER.decode_reply(answer), ErrorReply)


async def test_unsubscribing_forgets_the_cursor_and_needs_an_absent_consumer(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    await harness.publish(topic, "m")
    await gateway.until(lambda: gateway.texts() == ["m"])
    await gateway.ack(topic.name, "s", gateway.positions())
    with pytest.raises(Refused):
        await harness.ask(Unsubscribe(topic.name, "s"))
    await harness.ask(Detach(consumer, session))
    await harness.ask(Unsubscribe(topic.name, "s"))
    assert (await gateway.ack(topic.name, "s", [1])).unknown == [(topic.name, "s")]
    with pytest.raises(NotFound):
        await harness.ask(FindConsumer(consumer))
    await harness.kill()
    await harness.own()
    assert (await harness.ask(ListSubscriptions(topic.name))).subscriptions == []
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await gateway.until(lambda: gateway.texts() == ["m", "m"])


# Requests


async def test_what_was_told_of_losses_is_remembered_by_the_next_owner(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.subscribe(topic.name, "s")

    async def told(total: int) -> tuple[int, int]:
        totals = await harness.ask(TellLosses(topic.name, "s", total))
        return totals.lost, totals.told

    assert await told(0) == (0, 0)
    harness.owners[harness.epoch].context.writer.record(MessagesLost(topic.topic_id, "s", 7))
    assert await told(0) == (7, 0)
    assert await told(5) == (7, 5)
    assert await told(4) == (7, 5), "a late report changes nothing"
    assert await told(99) == (7, 7), "nobody is told of more than was lost"
    await harness.kill()
    await harness.own()
    assert await told(0) == (7, 7)
    with pytest.raises(NotFound):
        await harness.ask(TellLosses(topic.name, "none"))


async def test_what_a_non_reliable_topic_dropped_is_told(harness: OwnerHarness, gateway: Gateway) -> None:
    topic = await harness.topic("/default/t", Strategy())
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    await harness.ask(Detach(consumer, session))
    await harness.publish_non_reliable(topic, "a", "b")
    await harness.settle()
    assert await harness.ask(TellLosses(topic.name, "s")) == LossTotals(2, 0)
    assert await harness.ask(TellLosses(topic.name, "s", 2)) == LossTotals(2, 2)
    await harness.kill()
    await harness.own()
    assert await harness.ask(TellLosses(topic.name, "s")) == LossTotals(0, 0)


async def test_names_of_clients_that_are_gone_make_room_for_new_ones(
    harness: OwnerHarness, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_topic_owner.api.consumer_admission.CONSUMERS_ABSENT_MAX", 3)
    monkeypatch.setattr("danube_topic_owner.api.producers.PRODUCERS_IDLE_MAX", 3)
    topic = await harness.topic("/default/t")
    here = await gateway.subscribe(topic.name, "s", SHARED, name="here")
    await gateway.attach(here)
    alive = await harness.ask(CreateProducer(topic.name, "alive", AccessMode.SHARED))
    for number in range(10):
        await gateway.subscribe(topic.name, "s", SHARED, name=f"tool-{number}")
        await harness.ask(CreateProducer(topic.name, f"tool-{number}", AccessMode.SHARED))
        harness.now += PRODUCER_IDLE_S
        await harness.ask(FindProducer(alive.producer_id))
    state = harness.owners[harness.epoch].context.state.topics[topic.topic_id]
    assert set(state.subscriptions["s"].consumers.values()) == {"here", "tool-7", "tool-8", "tool-9"}
    assert {producer.name for producer in state.producers.values()} == {"alive", "tool-7", "tool-8", "tool-9"}


def test_every_request_type_has_a_handler(owner: BundleOwner) -> None:
    assert owner.requests._handlers.keys() == set(typing.get_args(OwnerRequest))


async def test_a_topic_is_found_while_it_exists(harness: OwnerHarness, owner: BundleOwner) -> None:
    topic = await harness.topic("/default/t")
    await harness.ask(FindTopic(topic.name))
    with pytest.raises(NotFound):
        await harness.ask(FindTopic("/default/other"))


# Who may produce


async def create(harness: OwnerHarness, topic: Topic, name: str, mode: AccessMode = AccessMode.SHARED) -> int:
    return (await harness.ask(CreateProducer(topic.name, name, mode))).producer_id


async def test_an_exclusive_producer_has_the_topic_while_it_lives(
    harness: OwnerHarness, owner: BundleOwner
) -> None:
    topic = await harness.topic("/default/t")
    only = await create(harness, topic, "only", AccessMode.EXCLUSIVE)
    assert await create(harness, topic, "only", AccessMode.EXCLUSIVE) == only
    with pytest.raises(AlreadyExists):
        await create(harness, topic, "other")
    harness.now += PRODUCER_IDLE_S - 1
    assert (await harness.ask(TouchProducers([only, 99]))).ids == [99]
    harness.now += PRODUCER_IDLE_S - 1
    with pytest.raises(AlreadyExists):
        await create(harness, topic, "other")
    harness.now += 1
    other = await create(harness, topic, "other")
    with pytest.raises(NotFound):
        await harness.ask(FindProducer(only))
    with pytest.raises(AlreadyExists):
        await create(harness, topic, "only", AccessMode.EXCLUSIVE)
    assert (await harness.ask(FindProducer(other))).producer_name == "other"


async def test_the_limit_on_producers_counts_those_that_live(
    harness: OwnerHarness, owner: BundleOwner
) -> None:
    topic = await harness.topic("/default/t")
    await harness.topics.set_policies(topic.topic_name, PolicyOverrides(max_producers_per_topic=2))
    await harness.settle()
    ids = [await create(harness, topic, name) for name in ("a", "b")]
    with pytest.raises(LimitExceeded, match="max_producers_per_topic"):
        await create(harness, topic, "c")
    assert await create(harness, topic, "a") == ids[0]
    harness.now += PRODUCER_IDLE_S
    await create(harness, topic, "c")
    assert (await harness.ask(FindProducer(ids[1]))).producer_id == ids[1]


async def test_a_producer_is_answered_when_the_journal_has_it(
    harness: OwnerHarness, owner: BundleOwner
) -> None:
    """Also the second of two calls for one name: its answer must not overtake the first one's record."""
    topic = await harness.topic("/default/t")
    await owner.context.writer.flushed()
    await harness.settle()
    gate, append = asyncio.Event(), harness.journal.append

    async def slow_append(bundle: Bundle, data: bytes, **how: typing.Any) -> int:
        await gate.wait()
        return await append(bundle, data, **how)

    harness.journal.append = slow_append  # type: ignore[method-assign]
    first = asyncio.create_task(create(harness, topic, "p"))
    await harness.settle()
    second = asyncio.create_task(create(harness, topic, "p"))
    await harness.settle()
    assert not first.done()
    assert not second.done()
    gate.set()
    assert await first == await second


# What retention may delete


async def test_the_floor_of_a_topic_is_the_least_journaled_cursor(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic, other = await harness.topic("/default/t"), await harness.topic("/default/other")
    quick, slow = [await gateway.subscribe(topic.name, name) for name in ("quick", "slow")]
    await gateway.attach(quick)
    await gateway.attach(slow)
    await harness.publish(topic, "a", "b", "c")
    await gateway.until(lambda: len(gateway.texts()) == 6)
    a, b, c = gateway.positions(quick)
    await gateway.ack(topic.name, "quick", [a, b, c])
    await gateway.ack(topic.name, "slow", [a])
    await harness.journaled()
    floors = (await harness.ask(RetentionFloors())).floors
    assert floors == {topic.topic_id: a}
    assert other.topic_id not in floors
    await harness.kill()
    await harness.own()
    assert (await harness.ask(RetentionFloors())).floors == floors


async def test_a_subscription_with_nothing_open_holds_nothing_back(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic, quiet = await harness.topic("/default/t"), await harness.topic("/default/quiet")
    consumer = await gateway.subscribe(quiet.name, "s")
    await gateway.attach(consumer)
    await harness.publish(quiet, "q")
    await gateway.until(lambda: gateway.texts() == ["q"])
    for text in "abc":
        await harness.publish(topic, text)
    await harness.settle()
    (q,) = gateway.positions()
    assert (await harness.ask(RetentionFloors())).floors == {quiet.topic_id: oldest_mark(quiet)}
    await gateway.ack(quiet.name, "s", [q])
    floors = (await harness.ask(RetentionFloors())).floors
    assert floors == {quiet.topic_id: end_of_sequence(4)}
    await harness.kill()
    await harness.own()
    floor = (await harness.ask(RetentionFloors())).floors[quiet.topic_id]
    assert floor >= q, "what was answered was journaled"


def oldest_mark(topic: Topic) -> int:
    """Where a subscription of a new topic begins."""
    return end_of_sequence(topic.log_floor)


async def test_what_is_not_journaled_is_no_floor(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, "a")
    await gateway.until(lambda: gateway.texts() == ["a"])
    await harness.own()
    acks = Acks([TopicAcks(topic.name, "s", ack_ranges(gateway.positions()))])
    await harness.ask(acks, epoch=1)
    with pytest.raises(Unavailable):
        await harness.ask(RetentionFloors(), epoch=1)
