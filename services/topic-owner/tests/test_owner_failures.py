from __future__ import annotations

import pytest

from danube_common.errors import (
    DanubeError,
    JournalFenced,
    NotFound,
)
from danube_common.model.producer import AccessMode
from danube_common.wire.owner.acknowledgements import Acks, TopicAcks, ack_ranges
from danube_common.wire.owner.producers import CreateProducer
from danube_common.wire.owner.sessions import (
    GATEWAY_SILENCE_S,
    FindConsumer,
    SessionState,
    Sync,
)
from danube_harness.services.owner_harness import (
    PLENTY,
    SHARED,
    Gateway,
    OwnerHarness,
)
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.delivery.subscription import LogSubscription
from danube_topic_owner.journal import writer as journal_writer
from danube_topic_owner.journal.events import decode_events

# Gateways that fall silent


async def test_a_silent_gateways_streams_end_and_their_messages_go_to_others(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway
) -> None:
    sessions = owner.requests.sessions
    other = await harness.gateway("h")
    topic = await harness.topic("/default/t")
    silent = await gateway.subscribe(topic.name, "s", SHARED, "a")
    await gateway.attach(silent)
    await harness.publish(topic, "m")
    await gateway.until(lambda: gateway.texts() == ["m"])
    lively = await other.subscribe(topic.name, "s", SHARED, "b")
    session = await other.attach(lively)
    for _ in range(4):
        harness.now += GATEWAY_SILENCE_S * 0.4
        await harness.ask(Sync("h", [SessionState(lively, session, PLENTY, PLENTY)]))
        sessions.sweep()
    await other.until(lambda: other.texts() == ["m"])
    assert not (await harness.ask(FindConsumer(silent))).attached
    assert (await harness.ask(FindConsumer(lively))).attached
    synced = await harness.ask(Sync("g", [SessionState(silent, 1, 9, 9)]))
    assert synced.unknown == [silent]


async def test_a_stream_its_gateway_no_longer_names_is_over(harness: OwnerHarness, gateway: Gateway) -> None:
    topic = await harness.topic("/default/t")
    kept = await gateway.subscribe(topic.name, "s", SHARED, "kept")
    gone = await gateway.subscribe(topic.name, "s", SHARED, "gone")
    session = await gateway.attach(kept)
    await gateway.attach(gone)
    await harness.publish(topic, "1", "2")
    await gateway.until(lambda: len(gateway.texts()) == 2)
    synced = await harness.ask(Sync("g", [SessionState(kept, session, PLENTY, PLENTY)]))
    assert (synced.unknown, synced.sent) == ([], {kept: 1})
    await gateway.until(lambda: len(gateway.texts(kept)) == 2)
    assert not (await harness.ask(FindConsumer(gone))).attached


@pytest.mark.parametrize("sync_first", [True, False])
async def test_a_sync_that_was_made_before_an_attach_ends_no_stream_of_it_whichever_comes_first(
    harness: OwnerHarness, gateway: Gateway, sync_first: bool
) -> None:
    topic = await harness.topic("/default/t")
    kept = await gateway.subscribe(topic.name, "s", SHARED, "kept")
    gone = await gateway.subscribe(topic.name, "s", SHARED, "gone")
    new = await gateway.subscribe(topic.name, "s", SHARED, "new")
    session, over = await gateway.attach(kept), await gateway.attach(gone)
    assert (await harness.ask(FindConsumer(kept))).session == session
    sync = Sync("g", [SessionState(kept, session, PLENTY, PLENTY)], newest=over)
    if sync_first:
        await harness.ask(sync)
    newer = await gateway.attach(new)
    if not sync_first:
        await harness.ask(sync)
    attached = {one: (await harness.ask(FindConsumer(one))).attached for one in (kept, new)}
    assert attached == {kept: True, new: True}
    assert not (await harness.ask(FindConsumer(gone))).attached
    await harness.ask(Sync("g", sync.sessions, newest=newer))
    assert not (await harness.ask(FindConsumer(new))).attached, "the next one ends it"


# Owners that die, and owners that do not know it


async def test_a_new_owner_delivers_what_was_not_acknowledged(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, *"abcdef")
    await gateway.until(lambda: len(gateway.texts()) == 6)
    await gateway.ack(topic.name, "s", [gateway.positions()[i] for i in (0, 1, 3)])
    await harness.journaled()
    await harness.kill()
    await harness.publish(topic, "while nobody owner it")
    await harness.own()
    await gateway.attach(consumer)
    await gateway.until(lambda: len(gateway.texts()) == 10)
    assert gateway.texts()[6:] == ["c", "e", "f", "while nobody owner it"]
    assert {delivery.epoch for delivery in gateway.deliveries} == {1, 2}


async def test_a_stopped_owner_leaves_no_acknowledgement_behind(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, "a", "b")
    await gateway.until(lambda: len(gateway.texts()) == 2)
    await gateway.ack(topic.name, "s", gateway.positions())
    await harness.owners.pop(1).stop()
    await harness.own()
    await gateway.attach(consumer)
    await harness.publish(topic, "c")
    await gateway.until(lambda: len(gateway.texts()) == 3)
    assert gateway.texts() == ["a", "b", "c"]


async def test_an_owner_that_was_replaced_can_write_nothing_and_is_told_apart(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, "a")
    await gateway.until(lambda: gateway.texts() == ["a"])
    await harness.own(2)
    await harness.ask(Acks([TopicAcks(topic.name, "s", ack_ranges(gateway.positions()))]), epoch=1)
    await harness.settle()
    with pytest.raises(DanubeError):
        await harness.ask(CreateProducer(topic.name, "p", AccessMode.SHARED), epoch=1)
    assert harness.lost == [1]
    records = [record async for record in harness.journal.replay(harness.bundle)]
    state_epochs = {getattr(event, "epoch", 2) for record in records for event in decode_events(record.data)}
    assert 2 in state_epochs
    await harness.publish(topic, "b")
    await gateway.until(lambda: "b" in gateway.texts())
    assert {d.epoch for d in gateway.deliveries if d.entries()[0][1] == b"b"} == {1}
    await gateway.attach(consumer)
    await gateway.until(lambda: [d.epoch for d in gateway.deliveries].count(2) >= 1)
    fresh = [message for d in gateway.deliveries if d.epoch == 2 for _, message in d.entries()]
    assert fresh[0] == b"a", "an acknowledgement to the previous owner moved no cursor"


async def test_a_claim_that_comes_late_does_not_take_the_bundle_back(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    await harness.own(5)
    with pytest.raises(JournalFenced):
        await harness.own(3)
    topic = await harness.topic("/default/t")
    await gateway.subscribe(topic.name, "s")
    assert 5 not in harness.lost


async def test_topics_deleted_while_nobody_owned_the_bundle_are_forgotten(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await harness.kill()
    await harness.topics.delete(topic.topic_name)
    again = await harness.topic("/default/t")
    await harness.settle()
    owner = await harness.own()
    assert topic.topic_id not in owner.context.state.topics
    with pytest.raises(NotFound):
        await harness.ask(FindConsumer(consumer))
    await harness.publish(topic, "of the old one")
    await harness.publish(again, "of the new one")
    await gateway.attach(await gateway.subscribe(again.name, "s"))
    await gateway.until(lambda: gateway.texts() == ["of the new one"])


async def test_a_deleted_topics_streams_are_ended(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    owner.drop_topic(topic)
    await gateway.until(lambda: len(gateway.notices) == 1)
    assert (gateway.notices[0].consumer_id, gateway.notices[0].session) == (consumer, session)
    await harness.journaled()
    await harness.kill()
    assert (await harness.own()).context.state.consumer(consumer) is None


async def test_a_quiet_subscription_moves_with_the_log_in_every_snapshot(
    harness: OwnerHarness, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, busy = await harness.topic("/default/quiet"), await harness.topic("/default/busy")
    consumer = await gateway.subscribe(quiet.name, "s")
    await gateway.attach(consumer)
    await harness.publish(quiet, "m")
    await gateway.until(lambda: gateway.texts() == ["m"])
    await gateway.ack(quiet.name, "s", gateway.positions())
    await harness.journaled()
    for number in range(5):
        await harness.publish(busy, f"{number}")
    await harness.settle()
    monkeypatch.setattr(journal_writer, "SNAPSHOT_BYTES", 1)
    await harness.ask(CreateProducer(busy.name, "p", AccessMode.SHARED))
    await harness.journaled()
    tail = (await harness.log.bounds(harness.bundle)).last_sequence
    await harness.kill()
    owner = await harness.own()
    (subscription,) = owner.context.subscriptions[quiet.topic_id].values()
    assert isinstance(subscription, LogSubscription)
    assert subscription.next_sequence == tail + 1
