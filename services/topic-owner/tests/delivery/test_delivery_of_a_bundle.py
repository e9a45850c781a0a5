from __future__ import annotations

import pytest

from danube_common.errors import (
    Refused,
)
from danube_common.model.policies import PolicyOverrides
from danube_common.wire.owner.protocol import OWNER, owner_subject
from danube_common.wire.owner.sessions import Credit, Detach, SessionState
from danube_harness.services.owner_harness import (
    NON_RELIABLE,
    PLENTY,
    Gateway,
    OwnerHarness,
)
from danube_topic_owner.delivery import non_reliable
from danube_topic_owner.delivery.consumer import Window


async def test_what_is_published_is_delivered_in_order_with_the_owners_epoch(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    for number in range(20):
        await harness.publish(topic, f"{number}a", f"{number}b")
    await gateway.until(lambda: len(gateway.texts()) == 40)
    assert gateway.texts() == [f"{number}{part}" for number in range(20) for part in "ab"]
    assert gateway.positions() == sorted(gateway.positions())
    assert {(d.epoch, d.session) for d in gateway.deliveries} == {(1, session)}
    assert [d.number for d in gateway.deliveries] == list(range(1, len(gateway.deliveries) + 1))


async def test_a_subscription_begins_with_what_was_published_before_it(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await harness.publish(topic, "early")
    consumer = await gateway.subscribe(topic.name, "s")
    await harness.publish(topic, "late")
    await gateway.attach(consumer)
    await gateway.until(lambda: gateway.texts() == ["early", "late"])


async def test_topics_of_one_bundle_do_not_mix(harness: OwnerHarness, gateway: Gateway) -> None:
    topics = [await harness.topic(f"/default/t{number}") for number in range(3)]
    consumers = [await gateway.subscribe(topic.name, "s") for topic in topics]
    for consumer in consumers:
        await gateway.attach(consumer)
    for number in range(6):
        await harness.publish(topics[number % 3], str(number))
    await gateway.until(lambda: len(gateway.texts()) == 6)
    for index, consumer in enumerate(consumers):
        assert gateway.texts(consumer) == [str(index), str(index + 3)]


async def test_an_owner_sends_no_more_than_the_credit_and_the_window_allow(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer, messages=7)
    for _ in range(10):
        await harness.publish(topic, *(str(n) for n in range(10)))
    await gateway.until(lambda: len(gateway.texts()) == 7)
    await harness.settle()
    assert len(gateway.texts()) == 7
    credit = Credit([SessionState(consumer, session, 90, PLENTY)])
    await harness.bus.publish(owner_subject(harness.bundle, harness.epoch), OWNER.encode(credit))
    await gateway.until(lambda: len(gateway.texts()) == 50)
    await harness.settle()
    assert len(gateway.texts()) == 50, "the window of unacknowledged messages"
    await gateway.ack(topic.name, "s", gateway.positions()[:45])
    await gateway.until(lambda: len(gateway.texts()) == 90)
    await harness.settle()
    assert len(gateway.texts()) == 90


async def test_what_was_in_flight_on_a_stream_that_ended_is_sent_again(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    await harness.publish(topic, "1", "2", "3")
    await gateway.until(lambda: len(gateway.texts()) == 3)
    await gateway.ack(topic.name, "s", gateway.positions()[1:2])
    await harness.ask(Detach(consumer, session))
    await gateway.attach(consumer)
    await gateway.until(lambda: gateway.texts()[3:] == ["1", "3"])


async def test_a_newer_stream_of_a_consumer_ends_the_older_one(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    other = await harness.gateway("h")
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    older = await gateway.attach(consumer)
    newer = await other.attach(consumer)
    await gateway.until(lambda: len(gateway.notices) == 1)
    notice = gateway.notices[0]
    assert (notice.consumer_id, notice.session, notice.epoch) == (consumer, older, 1)
    await harness.publish(topic, "m")
    await other.until(lambda: other.texts() == ["m"])
    assert gateway.texts() == []
    with pytest.raises(Refused):
        await gateway.attach(consumer, session=older)
    assert newer > older


async def test_a_stream_resumed_after_a_gap_gets_only_what_it_missed(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    for text in "123":
        await harness.publish(topic, text)
        await gateway.until(lambda text=text: text in gateway.texts())  # type: ignore[misc]
    await gateway.attach(consumer, resumes=session, received=2)
    await gateway.until(lambda: len(gateway.texts()) == 4)
    assert gateway.texts()[3:] == ["3"]
    assert gateway.notices == []
    assert gateway.deliveries[-1].number == 1


# Non-reliable topics


async def test_non_reliable_messages_go_to_who_is_there_and_are_counted_when_nobody_is(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t", NON_RELIABLE)
    consumer = await gateway.subscribe(topic.name, "s")
    await harness.publish_non_reliable(topic, "before the stream")
    session = await gateway.attach(consumer, messages=3)
    await harness.publish_non_reliable(topic, "1", "2", "over the credit")
    await gateway.until(lambda: len(gateway.texts()) == 3)
    assert gateway.texts() == ["before the stream", "1", "2"]
    assert set(gateway.positions()) == {0}
    await harness.ask(Detach(consumer, session))
    await harness.publish_non_reliable(topic, *(str(n) for n in range(1500)))
    await harness.settle()
    dropped = harness.metrics.dropped.labels(topic.name, "s")
    assert dropped._value.get() == 1501
    assert await harness.log.read(topic.home, 1, frames_max=1, bytes_max=1) == []


async def test_drops_of_a_full_queue_are_counted(
    harness: OwnerHarness, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(non_reliable, "WAITING_BYTES_MAX", 1000 * (non_reliable.MESSAGE_OVERHEAD_BYTES + 3))
    topic = await harness.topic("/default/t", NON_RELIABLE)
    await gateway.attach(await gateway.subscribe(topic.name, "s"), messages=0)
    for _ in range(3):
        await harness.publish_non_reliable(topic, *(f"{n:03}" for n in range(700)))
    await harness.settle()
    assert harness.metrics.dropped.labels(topic.name, "s")._value.get() == 3 * 700 - 1000


# Rates


async def test_a_dispatch_rate_is_kept_and_the_rest_follows(harness: OwnerHarness, gateway: Gateway) -> None:
    topic = await harness.topic("/default/t")
    await harness.topics.set_policies(topic.topic_name, PolicyOverrides(max_dispatch_rate=200))
    await harness.settle()
    for _ in range(21):
        await harness.publish(topic, *(str(n) for n in range(10)))
    consumer = await gateway.subscribe(topic.name, "s")
    owner = harness.owners[1]
    owner.context.subscriptions[topic.topic_id]["s"].dispatch.window = Window(messages=10_000)
    await gateway.attach(consumer)
    await gateway.until(lambda: len(gateway.texts()) >= 200)
    await harness.settle()
    assert len(gateway.texts()) == 200
    harness.now += 1.0
    await gateway.until(lambda: len(gateway.texts()) == 210)
