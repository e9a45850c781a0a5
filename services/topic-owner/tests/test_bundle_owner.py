"""A bundle's owner over the in-memory ports, with gateways that keep what they get."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common import keys
from danube_common.bundle import Bundle
from danube_common.bus.memory import MemoryBus, MemoryHub
from danube_common.catalogue import Catalogue
from danube_common.delivery import MAGIC, Delivery, decode_delivery
from danube_common.errors import (
    AlreadyExists,
    DanubeError,
    InvalidInput,
    JournalFenced,
    LimitExceeded,
    NotFound,
    Refused,
)
from danube_common.frame import encode_frame, make_frame_id
from danube_common.journal.memory import MemoryJournal
from danube_common.log.memory import MemoryLog
from danube_common.log.port import LogBounds, LogEntry
from danube_common.metadata.memory import MemoryMetadata
from danube_common.names import TopicName
from danube_common.namespaces import Namespaces
from danube_common.owner_protocol import (
    GATEWAY_SILENCE_S,
    AccessMode,
    Acked,
    Acks,
    Attach,
    ConsumerFound,
    CreateConsumer,
    CreateProducer,
    Credit,
    Detach,
    Done,
    FindConsumer,
    FindProducer,
    ListSubscriptions,
    OwnerReply,
    OwnerRequest,
    ProducerFound,
    Refusal,
    SessionEnded,
    SessionState,
    Subscriptions,
    SubscriptionType,
    Sync,
    Synced,
    TopicAcks,
    TouchProducers,
    UnknownIds,
    Unsubscribe,
    decode_notice,
    decode_reply,
    encode,
    error_of,
    fast_subject,
    gateway_subject,
    owner_subject,
)
from danube_common.policies import PolicyOverrides
from danube_common.position import sequence_of
from danube_common.records import Layout, Topic, encode_record
from danube_common.runtime.metrics import Metrics
from danube_common.schema import Schema, SchemaKind
from danube_common.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.topics import Topics
from danube_topic_owner.bundle_owner import BundleOwner, OwnerPorts, Window
from danube_topic_owner.events import decode_events
from danube_topic_owner.owner_metrics import OwnerMetrics
from danube_topic_owner.ownership import Owned
from danube_topic_owner.producers import PRODUCER_IDLE_S
from danube_topic_owner.requests import ATTACH_GRACE_S

EXCLUSIVE, SHARED, FAILOVER = SubscriptionType.EXCLUSIVE, SubscriptionType.SHARED, SubscriptionType.FAILOVER
DISK = Strategy(ReliableOptions(storage=StorageBackend.DISK))
IN_MEMORY = Strategy(ReliableOptions(storage=StorageBackend.MEMORY))
NON_RELIABLE = Strategy()
PLENTY = 1 << 40
PATIENCE_S = 20.0
"""A test that waits longer has failed; none waits for time to pass."""

Reply = TypeVar("Reply", bound=OwnerReply)


class TurningLog(MemoryLog):
    """Lets other tasks have turns before and after it looks, as a log over the network does."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Callable[[], int] = lambda: 0

    async def bounds(self, bundle: Bundle) -> LogBounds:
        await self._turn()
        answer = await super().bounds(bundle)
        await self._turn()
        return answer

    async def read(
        self, bundle: Bundle, from_sequence: int, *, frames_max: int, bytes_max: int
    ) -> list[LogEntry]:
        await self._turn()
        answer = await super().read(bundle, from_sequence, frames_max=min(frames_max, 4), bytes_max=bytes_max)
        await self._turn()
        return answer

    def lose(self, bundle: Bundle) -> None:
        """All that was stored is gone, as when the server of a volatile log dies."""
        stored = self._opened(bundle)
        stored.entries.clear()
        stored.sequences_by_id.clear()
        stored.last_sequence = stored.bytes_kept = 0

    async def _turn(self) -> None:
        for _ in range(self.turns()):
            await asyncio.sleep(0)


class Gateway:
    """Gets deliveries and notices; asks the owner of an epoch, by default the newest."""

    def __init__(self, house: House, name: str) -> None:
        self.house = house
        self.name = name
        self.deliveries: list[Delivery] = []
        self.notices: list[SessionEnded] = []
        self.arrived = asyncio.Event()

    def take(self, data: bytes) -> None:
        if data[0] == MAGIC:
            self.deliveries.append(decode_delivery(data))
        else:
            self.notices.append(decode_notice(data))
        self.arrived.set()

    def texts(self, consumer_id: int | None = None) -> list[str]:
        return [message.decode() for _, message in self.entries(consumer_id)]

    def positions(self, consumer_id: int | None = None) -> list[int]:
        return [position for position, _ in self.entries(consumer_id)]

    def entries(self, consumer_id: int | None = None) -> list[tuple[int, bytes]]:
        return [
            entry
            for delivery in self.deliveries
            if consumer_id in (None, delivery.consumer_id)
            for entry in delivery.entries
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.arrived.clear()
                await self.arrived.wait()

    async def subscribe(
        self, topic: str, subscription: str, kind: SubscriptionType = EXCLUSIVE, name: str = "c"
    ) -> int:
        request = CreateConsumer(topic, subscription, kind, name)
        return (await self.house.ask(request, ConsumerFound)).consumer_id

    async def attach(self, consumer_id: int, *, messages: int = PLENTY, session: int = 0, **more: int) -> int:
        session = session or next(self.house.sessions)
        request = Attach(consumer_id, self.name, session, messages, PLENTY, **more)
        await self.house.ask(request, ConsumerFound)
        return session

    async def ack(self, topic: str, subscription: str, positions: list[int]) -> Acked:
        return await self.house.ask(Acks([TopicAcks(topic, subscription, positions)]), Acked)


class House:
    """One bundle, its ports, and the owners it had."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryMetadata()
        self.hub = MemoryHub()
        self.bus = MemoryBus(self.hub)
        self.log = TurningLog()
        self.journal = MemoryJournal()
        self.ports = OwnerPorts(self.bus, self.log, self.journal)
        self.topics = Topics(self.store, self.log, now_ms=lambda: time.time_ns() // 1_000_000)
        self.metrics = OwnerMetrics(Metrics("topic-owner", "1"), "1")
        self.catalogue: Catalogue
        self.epoch = 0
        self.owners: dict[int, Owned] = {}
        self.lost: list[int] = []
        self.sessions = itertools.count(1)
        self.frames = itertools.count(1)
        self.bundle = Bundle.parse("f0")

    async def topic(self, name: str, strategy: Strategy = DISK) -> Topic:
        schema = Schema("s", SchemaKind.BYTES)
        return await self.topics.create(TopicName.parse(name), schema, strategy)

    async def gateway(self, name: str) -> Gateway:
        gateway = Gateway(self, name)
        await self.bus.subscribe(gateway_subject(name), gateway.take)
        return gateway

    async def own(self, epoch: int = 0) -> Owned:
        """A new owner, of the next epoch if not told otherwise."""
        epoch = epoch or self.epoch + 1
        owner = BundleOwner(
            self.bundle,
            epoch,
            f"instance-{epoch}",
            self.ports,
            self.catalogue,
            window=Window(messages=50),
            metrics=self.metrics,
            on_lost=lambda: self.lost.append(epoch),
            clock=lambda: self.now,
        )
        owned = self.owners[epoch] = Owned(owner)
        await owned.start(self.ports)
        self.epoch = max(self.epoch, epoch)
        return owned

    async def kill(self, epoch: int = 0) -> None:
        """End an owner as a dying process does: nothing more is written."""
        owned = self.owners.pop(epoch or self.epoch)
        owner = owned.owner
        for task in owner._tasks:
            task.cancel()
        await asyncio.gather(*owner._tasks, return_exceptions=True)
        for listener in owned._listeners:
            await listener.close()
        owner.dispatcher.close()
        await owner.reader.close()

    async def publish(self, topic: Topic, *texts: str) -> None:
        number = next(self.frames)
        frame = encode_frame(1, number, [(topic.topic_id, [text.encode() for text in texts])])
        await self.log.append(topic.home, frame, frame_id=make_frame_id(1, number), timeout_s=1)

    async def publish_fast(self, topic: Topic, *texts: str) -> None:
        frame = encode_frame(1, next(self.frames), [(topic.topic_id, [text.encode() for text in texts])])
        await self.bus.publish(fast_subject(topic.home), frame)

    async def ask(self, request: OwnerRequest, reply: type[Reply], *, epoch: int = 0) -> Reply:
        subject = owner_subject(self.bundle, epoch or self.epoch)
        answer = decode_reply(await self.bus.request(subject, encode(request), timeout_s=PATIENCE_S))
        if isinstance(answer, Refusal):
            raise error_of(answer)
        assert isinstance(answer, reply)
        return answer

    async def settle(self) -> None:
        """Everything that was set off has happened: many turns of the loop, none waited for."""
        for _ in range(60):
            await asyncio.sleep(0)

    async def journaled(self) -> None:
        """What was acknowledged is in the journal."""
        await self.settle()
        owner = self.owners[self.epoch].owner
        await owner.writer.flushed()


@asynccontextmanager
async def open_house(bundles: int = 1) -> AsyncIterator[House]:
    house = House()
    await Namespaces(house.store).create("default")
    await house.store.put(keys.LAYOUT, encode_record(Layout(bundles, bundles)))
    house.catalogue = await Catalogue.open(house.store)
    try:
        yield house
    finally:
        for epoch in list(house.owners):
            await house.kill(epoch)
        await house.catalogue.close()
        await house.bus.close()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


@pytest.fixture
async def owned(house: House) -> Owned:
    return await house.own()


@pytest.fixture
async def gateway(house: House, owned: Owned) -> Gateway:
    return await house.gateway("g")


# Delivery


async def test_what_is_published_is_delivered_in_order_with_the_owners_epoch(
    house: House, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    for number in range(20):
        await house.publish(topic, f"{number}a", f"{number}b")
    await gateway.until(lambda: len(gateway.texts()) == 40)
    assert gateway.texts() == [f"{number}{part}" for number in range(20) for part in "ab"]
    assert gateway.positions() == sorted(gateway.positions())
    assert {(d.epoch, d.session) for d in gateway.deliveries} == {(1, session)}
    assert [d.number for d in gateway.deliveries] == list(range(1, len(gateway.deliveries) + 1))


async def test_a_subscription_begins_with_what_was_published_before_it(
    house: House, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    await house.publish(topic, "early")
    consumer = await gateway.subscribe(topic.name, "s")
    await house.publish(topic, "late")
    await gateway.attach(consumer)
    await gateway.until(lambda: gateway.texts() == ["early", "late"])


async def test_topics_of_one_bundle_do_not_mix(house: House, gateway: Gateway) -> None:
    topics = [await house.topic(f"/default/t{number}") for number in range(3)]
    consumers = [await gateway.subscribe(topic.name, "s") for topic in topics]
    for consumer in consumers:
        await gateway.attach(consumer)
    for number in range(6):
        await house.publish(topics[number % 3], str(number))
    await gateway.until(lambda: len(gateway.texts()) == 6)
    for index, consumer in enumerate(consumers):
        assert gateway.texts(consumer) == [str(index), str(index + 3)]


async def test_an_owner_sends_no_more_than_the_credit_and_the_window_allow(
    house: House, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer, messages=7)
    for _ in range(10):
        await house.publish(topic, *(str(n) for n in range(10)))
    await gateway.until(lambda: len(gateway.texts()) == 7)
    await house.settle()
    assert len(gateway.texts()) == 7
    credit = Credit([SessionState(consumer, session, 90, PLENTY)])
    await house.bus.publish(owner_subject(house.bundle, house.epoch), encode(credit))
    await gateway.until(lambda: len(gateway.texts()) == 50)
    await house.settle()
    assert len(gateway.texts()) == 50, "the window of unacknowledged messages"
    await gateway.ack(topic.name, "s", gateway.positions()[:45])
    await gateway.until(lambda: len(gateway.texts()) == 90)
    await house.settle()
    assert len(gateway.texts()) == 90


async def test_what_was_in_flight_on_a_stream_that_ended_is_sent_again(
    house: House, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    await house.publish(topic, "1", "2", "3")
    await gateway.until(lambda: len(gateway.texts()) == 3)
    await gateway.ack(topic.name, "s", gateway.positions()[1:2])
    await house.ask(Detach(consumer, session), Done)
    await gateway.attach(consumer)
    await gateway.until(lambda: gateway.texts()[3:] == ["1", "3"])


async def test_a_newer_stream_of_a_consumer_ends_the_older_one(house: House, gateway: Gateway) -> None:
    other = await house.gateway("h")
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    older = await gateway.attach(consumer)
    newer = await other.attach(consumer)
    await gateway.until(lambda: len(gateway.notices) == 1)
    notice = gateway.notices[0]
    assert (notice.consumer_id, notice.session, notice.epoch) == (consumer, older, 1)
    await house.publish(topic, "m")
    await other.until(lambda: other.texts() == ["m"])
    assert gateway.texts() == []
    with pytest.raises(Refused):
        await gateway.attach(consumer, session=older)
    assert newer > older


async def test_a_stream_resumed_after_a_gap_gets_only_what_it_missed(house: House, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    for text in "123":
        await house.publish(topic, text)
        await gateway.until(lambda text=text: text in gateway.texts())  # type: ignore[misc]
    await gateway.attach(consumer, resumes=session, received=2)
    await gateway.until(lambda: len(gateway.texts()) == 4)
    assert gateway.texts()[3:] == ["3"]
    assert gateway.notices == []
    assert gateway.deliveries[-1].number == 1


# Who may consume


async def test_an_exclusive_subscription_has_one_consumer_at_a_time(house: House, gateway: Gateway) -> None:
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
    house: House, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    await gateway.subscribe(topic.name, "s", name="first")
    house.now += ATTACH_GRACE_S
    await gateway.subscribe(topic.name, "s", name="second")


async def test_a_subscription_keeps_its_type(house: House, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    await gateway.subscribe(topic.name, "s", SHARED)
    with pytest.raises(Refused, match="shared"):
        await gateway.subscribe(topic.name, "s", EXCLUSIVE)


async def test_a_consumers_id_is_the_same_for_its_name_and_another_for_others(
    house: House, gateway: Gateway
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


async def test_shared_consumers_take_turns(house: House, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    consumers = [await gateway.subscribe(topic.name, "s", SHARED, name) for name in "ab"]
    for consumer in consumers:
        await gateway.attach(consumer)
    for number in range(10):
        await house.publish(topic, str(number))
    await gateway.until(lambda: len(gateway.texts()) == 10)
    assert [len(gateway.texts(consumer)) for consumer in consumers] == [5, 5]


async def test_failover_has_one_active_consumer_and_hands_over_in_order(
    house: House, gateway: Gateway
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


async def test_limits_on_consumers_and_subscriptions_are_kept(house: House, gateway: Gateway) -> None:
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
    house: House, gateway: Gateway, request_: OwnerRequest, error: type[DanubeError]
) -> None:
    await house.topic("/default/t")
    await house.settle()
    await house.journaled()
    before = await house.journal.replay(house.bundle)
    with pytest.raises(error):
        await house.ask(request_, Done)
    await house.journaled()
    assert await house.journal.replay(house.bundle) == before


async def test_bytes_that_are_no_request_are_refused(house: House, gateway: Gateway) -> None:
    answer = await house.bus.request(owner_subject(house.bundle, 1), b"\xc1garbage", timeout_s=PATIENCE_S)
    assert isinstance(decode_reply(answer), Refusal)


async def test_unsubscribing_forgets_the_cursor_and_needs_an_absent_consumer(
    house: House, gateway: Gateway
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


# Who may produce


async def create(house: House, topic: Topic, name: str, mode: AccessMode = AccessMode.SHARED) -> int:
    return (await house.ask(CreateProducer(topic.name, name, mode), ProducerFound)).producer_id


async def test_an_exclusive_producer_has_the_topic_while_it_lives(house: House, owned: Owned) -> None:
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


async def test_the_limit_on_producers_counts_those_that_live(house: House, owned: Owned) -> None:
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


async def test_a_producer_is_answered_when_the_journal_has_it(house: House, owned: Owned) -> None:
    """Also the second of two calls for one name: its answer must not overtake the first one's record."""
    topic = await house.topic("/default/t")
    await owned.owner.writer.flushed()
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


# Gateways that fall silent


async def test_a_silent_gateways_streams_end_and_their_messages_go_to_others(
    house: House, owned: Owned, gateway: Gateway
) -> None:
    sessions = owned.sessions
    other = await house.gateway("h")
    topic = await house.topic("/default/t")
    silent = await gateway.subscribe(topic.name, "s", SHARED, "a")
    await gateway.attach(silent)
    await house.publish(topic, "m")
    await gateway.until(lambda: gateway.texts() == ["m"])
    lively = await other.subscribe(topic.name, "s", SHARED, "b")
    session = await other.attach(lively)
    for _ in range(4):
        house.now += GATEWAY_SILENCE_S * 0.4
        await house.ask(Sync("h", [SessionState(lively, session, PLENTY, PLENTY)]), Synced)
        sessions.sweep()
    await other.until(lambda: other.texts() == ["m"])
    assert not (await house.ask(FindConsumer(silent), ConsumerFound)).attached
    assert (await house.ask(FindConsumer(lively), ConsumerFound)).attached
    synced = await house.ask(Sync("g", [SessionState(silent, 1, 9, 9)]), Synced)
    assert synced.unknown == [silent]


async def test_a_stream_its_gateway_no_longer_names_is_over(house: House, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    kept = await gateway.subscribe(topic.name, "s", SHARED, "kept")
    gone = await gateway.subscribe(topic.name, "s", SHARED, "gone")
    session = await gateway.attach(kept)
    await gateway.attach(gone)
    await house.publish(topic, "1", "2")
    await gateway.until(lambda: len(gateway.texts()) == 2)
    synced = await house.ask(Sync("g", [SessionState(kept, session, PLENTY, PLENTY)]), Synced)
    assert (synced.unknown, synced.sent) == ([], {kept: 1})
    await gateway.until(lambda: len(gateway.texts(kept)) == 2)
    assert not (await house.ask(FindConsumer(gone), ConsumerFound)).attached


# Owners that die, and owners that do not know it


async def test_a_new_owner_delivers_what_was_not_acknowledged(house: House, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await house.publish(topic, *"abcdef")
    await gateway.until(lambda: len(gateway.texts()) == 6)
    await gateway.ack(topic.name, "s", [gateway.positions()[i] for i in (0, 1, 3)])
    await house.journaled()
    await house.kill()
    await house.publish(topic, "while nobody owned it")
    await house.own()
    await gateway.attach(consumer)
    await gateway.until(lambda: len(gateway.texts()) == 10)
    assert gateway.texts()[6:] == ["c", "e", "f", "while nobody owned it"]
    assert {delivery.epoch for delivery in gateway.deliveries} == {1, 2}


async def test_a_stopped_owner_leaves_no_acknowledgement_behind(house: House, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await house.publish(topic, "a", "b")
    await gateway.until(lambda: len(gateway.texts()) == 2)
    await gateway.ack(topic.name, "s", gateway.positions())
    await house.owners.pop(1).stop()
    await house.own()
    await gateway.attach(consumer)
    await house.publish(topic, "c")
    await gateway.until(lambda: len(gateway.texts()) == 3)
    assert gateway.texts() == ["a", "b", "c"]


async def test_an_owner_that_was_replaced_can_write_nothing_and_is_told_apart(
    house: House, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await house.publish(topic, "a")
    await gateway.until(lambda: gateway.texts() == ["a"])
    await house.own(2)
    await house.ask(Acks([TopicAcks(topic.name, "s", gateway.positions())]), Acked, epoch=1)
    await house.settle()
    with pytest.raises(DanubeError):
        await house.ask(CreateProducer(topic.name, "p", AccessMode.SHARED), ProducerFound, epoch=1)
    assert house.lost == [1]
    records = await house.journal.replay(house.bundle)
    state_epochs = {getattr(event, "epoch", 2) for record in records for event in decode_events(record.data)}
    assert 2 in state_epochs
    await house.publish(topic, "b")
    await gateway.until(lambda: "b" in gateway.texts())
    assert {d.epoch for d in gateway.deliveries if d.entries[0][1] == b"b"} == {1}
    await gateway.attach(consumer)
    await gateway.until(lambda: [d.epoch for d in gateway.deliveries].count(2) >= 1)
    fresh = [message for d in gateway.deliveries if d.epoch == 2 for _, message in d.entries]
    assert fresh[0] == b"a", "the zombie's acknowledgement moved no cursor"


async def test_a_claim_that_comes_late_does_not_take_the_bundle_back(house: House, gateway: Gateway) -> None:
    await house.own(5)
    with pytest.raises(JournalFenced):
        await house.own(3)
    topic = await house.topic("/default/t")
    await gateway.subscribe(topic.name, "s")
    assert 5 not in house.lost


async def test_topics_deleted_while_nobody_owned_the_bundle_are_forgotten(
    house: House, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await house.kill()
    await house.topics.delete(topic.topic_name)
    again = await house.topic("/default/t")
    await house.settle()
    owned = await house.own()
    assert topic.topic_id not in owned.owner.state.topics
    with pytest.raises(NotFound):
        await house.ask(FindConsumer(consumer), ConsumerFound)
    await house.publish(topic, "of the old one")
    await house.publish(again, "of the new one")
    await gateway.attach(await gateway.subscribe(again.name, "s"))
    await gateway.until(lambda: gateway.texts() == ["of the new one"])


async def test_a_deleted_topics_streams_are_ended(house: House, owned: Owned, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    owned.owner.drop_topic(topic)
    await gateway.until(lambda: len(gateway.notices) == 1)
    assert (gateway.notices[0].consumer_id, gateway.notices[0].session) == (consumer, session)
    await house.journaled()
    await house.kill()
    assert (await house.own()).owner.state.consumer(consumer) is None


# Non-reliable topics


async def test_non_reliable_messages_go_to_who_is_there_and_are_counted_when_nobody_is(
    house: House, gateway: Gateway
) -> None:
    topic = await house.topic("/default/t", NON_RELIABLE)
    consumer = await gateway.subscribe(topic.name, "s")
    await house.publish_fast(topic, "before the stream")
    session = await gateway.attach(consumer, messages=3)
    await house.publish_fast(topic, "1", "2", "over the credit")
    await gateway.until(lambda: len(gateway.texts()) == 3)
    assert gateway.texts() == ["before the stream", "1", "2"]
    assert set(gateway.positions()) == {0}
    await house.ask(Detach(consumer, session), Done)
    await house.publish_fast(topic, *(str(n) for n in range(1500)))
    await house.settle()
    dropped = house.metrics.dropped.labels(topic.name, "s")
    assert dropped._value.get() == 1501
    assert await house.log.read(topic.home, 1, frames_max=1, bytes_max=1) == []


async def test_drops_of_a_full_queue_are_counted(house: House, gateway: Gateway) -> None:
    topic = await house.topic("/default/t", NON_RELIABLE)
    await gateway.attach(await gateway.subscribe(topic.name, "s"), messages=0)
    for _ in range(3):
        await house.publish_fast(topic, *(str(n) for n in range(700)))
    await house.settle()
    assert house.metrics.dropped.labels(topic.name, "s")._value.get() == 3 * 700 - 1000


# Rates


async def test_a_dispatch_rate_is_kept_and_the_rest_follows(house: House, gateway: Gateway) -> None:
    topic = await house.topic("/default/t")
    await house.topics.set_policies(topic.topic_name, PolicyOverrides(max_dispatch_rate=200))
    await house.settle()
    for _ in range(21):
        await house.publish(topic, *(str(n) for n in range(10)))
    consumer = await gateway.subscribe(topic.name, "s")
    owner = house.owners[1].owner
    owner._window = Window(messages=10_000)
    owner.subscriptions[topic.topic_id]["s"].dispatch.window_messages = 10_000
    await gateway.attach(consumer)
    await gateway.until(lambda: len(gateway.texts()) >= 200)
    await house.settle()
    assert len(gateway.texts()) == 200
    house.now += 1.0
    await gateway.until(lambda: len(gateway.texts()) == 210)


# Volatile logs


async def memory_house(house: House) -> Topic:
    house.bundle = Bundle.parse("m0")
    await house.own()
    return await house.topic("/default/m", IN_MEMORY)


async def test_a_volatile_log_that_began_anew_under_its_owner_is_delivered_from_its_beginning(
    house: House,
) -> None:
    topic = await memory_house(house)
    gateway = await house.gateway("g")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    for text in "abc":
        await house.publish(topic, text)
    await gateway.until(lambda: len(gateway.texts()) == 3)
    await gateway.ack(topic.name, "s", gateway.positions())
    house.log.lose(topic.home)
    for text in "de":
        await house.publish(topic, text)
    house.owners[1].owner.reader.check()
    await gateway.until(lambda: len(gateway.texts()) == 5)
    assert gateway.texts()[3:] == ["d", "e"]
    await gateway.ack(topic.name, "s", gateway.positions()[3:])
    await house.publish(topic, "f")
    await gateway.until(lambda: gateway.texts()[5:] == ["f"])


@pytest.mark.parametrize("acked", [True, False])
@pytest.mark.parametrize("subscribed", ["before", "after"])
async def test_a_volatile_log_that_began_anew_while_nobody_owned_it_is_delivered_from_its_beginning(
    house: House, subscribed: str, *, acked: bool
) -> None:
    first = await memory_house(house)
    gateway = await house.gateway("g")
    reading = await gateway.subscribe(first.name, "s")
    await gateway.attach(reading)
    for text in "abc":
        await house.publish(first, text)
    await gateway.until(lambda: len(gateway.texts()) == 3)
    if acked:
        await gateway.ack(first.name, "s", gateway.positions())
    topic = await house.topic("/default/other", IN_MEMORY)
    assert topic.log_floor == 3
    consumer = await gateway.subscribe(topic.name, "s") if subscribed == "before" else 0
    await house.journaled()
    await house.kill()
    house.log.lose(topic.home)
    for text in "defgh":
        await house.publish(topic, text)
    await house.own()
    consumer = consumer or await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await gateway.until(lambda: gateway.texts(consumer) == list("defgh"))


# Everything at once

STEPS = st.lists(
    st.sampled_from(
        ["publish", "publish", "publish", "ack", "ack", "detach", "attach", "grant", "sync", "kill", "turns"]
    ),
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.sampled_from(SubscriptionType), st.integers(0, 1 << 32))
def test_nothing_is_lost_or_reordered_whatever_happens_when(
    steps: list[str], kind: SubscriptionType, seed: int
) -> None:
    """Publishing, acknowledging, streams that come and go, small credit, owners that die, in any order."""
    asyncio.run(_anything(steps, kind, Random(seed)))


class Anything:
    """A topic with its consumers, and what each random step does to them."""

    def __init__(self, house: House, gateway: Gateway, topics: list[Topic], random: Random) -> None:
        self.house, self.gateway, self.random = house, gateway, random
        self.topic, self.noise = topics
        self.consumers: list[int] = []
        self.sessions: dict[int, tuple[int, int]] = {}
        self.published: list[str] = []
        self.acked: set[int] = set()
        self.failures = 0

    async def step(self, step: str) -> None:
        consumer = self.random.choice(self.consumers)
        match step:
            case "publish":
                await self.publish()
            case "ack":
                await self.acknowledge_some()
            case "detach" if consumer in self.sessions:
                await self.house.ask(Detach(consumer, self.sessions.pop(consumer)[0]), Done)
                self.failures += 1
            case "attach":
                self.failures += consumer in self.sessions
                await self.attach(consumer, self.random.randint(0, 8))
            case "grant" if consumer in self.sessions:
                await self.grant(consumer, self.random.randint(0, 20))
            case "sync":
                states = [SessionState(c, s, total, PLENTY) for c, (s, total) in self.sessions.items()]
                assert (await self.house.ask(Sync("g", states), Synced)).unknown == []
            case "kill":
                await self.replace_owner()
            case "turns":
                await self.house.settle()

    async def attach(self, consumer: int, credit: int) -> None:
        self.sessions[consumer] = (await self.gateway.attach(consumer, messages=credit), credit)

    async def grant(self, consumer: int, more: int) -> None:
        session, total = self.sessions[consumer]
        self.sessions[consumer] = (session, total + more)
        await self.house.ask(Credit([SessionState(consumer, session, total + more, PLENTY)]), Done)

    async def publish(self) -> None:
        texts = [str(len(self.published) + n) for n in range(self.random.randint(1, 12))]
        self.published.extend(texts)
        await self.house.publish(self.topic, *texts)
        if self.random.randint(0, 1):
            await self.house.publish(self.noise, "x")

    async def acknowledge_some(self) -> None:
        open_ = [p for p in self.gateway.positions() if p not in self.acked]
        some = open_[: self.random.randint(0, 5)] + open_[-self.random.randint(1, 5) :]
        self.acked.update(some)
        await self.gateway.ack(self.topic.name, "s", [*some, *some[:1]])

    async def replace_owner(self) -> None:
        await self.house.kill()
        await self.house.own()
        self.sessions.clear()
        self.acked.clear()  # what the last batch held is acknowledged again when it comes again
        self.failures += 1

    async def drain(self) -> None:
        """Every consumer takes and acknowledges all there is."""
        await self.house.settle()
        for consumer in self.consumers:
            if consumer not in self.sessions:
                await self.attach(consumer, 0)
        gateway = self.gateway
        async with asyncio.timeout(PATIENCE_S):
            while len(set(gateway.texts())) < len(self.published) or set(gateway.positions()) - self.acked:
                open_ = [p for p in gateway.positions() if p not in self.acked]
                self.acked.update(open_)
                await gateway.ack(self.topic.name, "s", open_)
                for consumer in self.consumers:
                    await self.grant(consumer, 7)
                await self.house.settle()


async def _anything(steps: list[str], kind: SubscriptionType, random: Random) -> None:
    async with open_house() as house:
        house.log.turns = lambda: random.randint(0, 3)
        await house.own()
        gateway = await house.gateway("g")
        topics = [await house.topic("/default/t"), await house.topic("/default/noise")]
        world = Anything(house, gateway, topics, random)
        for name in "a" if kind is EXCLUSIVE else "ab":
            world.consumers.append(await gateway.subscribe(topics[0].name, "s", kind, name))
        for step in steps:
            await world.step(step)
        await world.drain()
        assert set(gateway.texts()) == set(world.published)
        if not world.failures:
            assert Counter(gateway.texts()) == Counter(world.published)
            assert kind is SHARED or gateway.texts() == world.published
        _check_order(gateway, kind)
        await house.journaled()
        await house.kill()
        await house.own()
        for consumer in world.consumers:
            await world.attach(consumer, 100)
        seen = len(gateway.texts())
        await house.publish(world.topic, "the last")
        await gateway.until(lambda: gateway.texts()[-1:] == ["the last"])
        assert gateway.texts()[seen:] == ["the last"], "what was acknowledged is not sent again"


def _check_order(gateway: Gateway, kind: SubscriptionType) -> None:
    """Within a session positions only rise, and where they are of one text, it is always the same."""
    by_session: dict[int, list[int]] = {}
    for delivery in gateway.deliveries:
        by_session.setdefault(delivery.session, []).extend(position for position, _ in delivery.entries)
    for positions in by_session.values():
        assert len(set(positions)) == len(positions)
        if kind is not SHARED:
            assert positions == sorted(positions)
    texts = dict(gateway.entries())
    assert all(texts[position] == message for position, message in gateway.entries())
    assert all(sequence_of(position) > 0 for position in texts)
