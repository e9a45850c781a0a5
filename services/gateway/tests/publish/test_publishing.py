from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import google_crc32c
import msgspec
import pytest

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Claim, Layout, Topic, encode_record
from danube_common.cluster.topics import Topics
from danube_common.errors import (
    AlreadyExists,
    InvalidInput,
    LimitExceeded,
    LogUnavailable,
    NotFound,
    SchemaViolation,
    Unavailable,
)
from danube_common.model.bundle import Bundle
from danube_common.model.ids import make_id
from danube_common.model.names import TopicName
from danube_common.model.policies import PolicyOverrides
from danube_common.model.producer import AccessMode
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.schemas.registry import SchemaRegistry
from danube_common.schemas.topics import TopicSchemaView
from danube_common.wire.envelope import ErrorReply, Reason
from danube_common.wire.frame import decode_frame, encode_frame
from danube_common.wire.owner.producers import (
    CreateProducer,
    FindProducer,
    ProducerFound,
    TouchProducers,
    UnknownIds,
)
from danube_common.wire.owner.protocol import OWNER, non_reliable_subject, owner_subject
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_gateway.publish.batch_lane import BatchLane
from danube_gateway.publish.producers import Producers
from danube_gateway.publish.publishing import Publishing
from danube_gateway.publish.ready_batch import Body, Message
from danube_gateway.publish.schema_checks import SchemaChecks
from danube_gateway.publish.schema_evolution import SchemaEvolution
from danube_gateway.publish.schema_worker import SchemaWorker
from danube_gateway.publish.subject_checks import SubjectChecks
from danube_gateway.publish.topic_limits import ENVELOPE_BYTES_MAX
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.traffic.publish_stream import body_of

BUNDLE = Bundle.parse("f0")
NAME = TopicName.parse("/default/t")
DISK = Strategy(ReliableOptions(storage=StorageBackend.DISK))
TEXT = Schema("s", SchemaKind.STRING)
NOTHING_TO_CHECK = Schema("s", SchemaKind.BYTES)


class Scene:
    """The publish path of a gateway, with a store, a log, and an owner of the created producers."""

    def __init__(self) -> None:
        self.store = MemoryMetadata()
        self.bus = MemoryBus(MemoryHub())
        self.log = MemoryLog()
        self.topics = Topics(self.store, self.log, now_ms=lambda: 1)
        self.tasks: list[asyncio.Task[None]] = []
        self.made: dict[int, ProducerFound] = {}
        self.asked: list[str] = []
        self.catalogue: Catalogue
        self.producers: Producers
        self.publishing: Publishing
        self.metrics = Metrics("gateway", "1")
        self.resolver: TopicResolver

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.append(asyncio.create_task(work, name=name))

    async def answer(self, data: bytes) -> bytes:
        request = OWNER.decode_request(data)
        self.asked.append(type(request).__name__)
        reply: msgspec.Struct
        match request:
            case CreateProducer(topic, name):
                producer_id = make_id(BUNDLE, "producer", topic, name)
                known = await self.topics.get(TopicName.parse(topic))
                assert known is not None
                reply = self.made[producer_id] = ProducerFound(producer_id, name, topic, known.topic_id)
            case FindProducer(producer_id):
                reply = self.made.get(producer_id) or ErrorReply(Reason.NOT_FOUND, "no such producer")
            case TouchProducers(ids):
                reply = UnknownIds([one for one in ids if one not in self.made])
            case _:
                raise AssertionError(request)
        return OWNER.encode(reply)

    async def seen(self) -> None:
        """Wait until the catalogue has seen all writes to the store."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def producer(self, schema: Schema = TEXT, strategy: Strategy = DISK, name: str = "p") -> int:
        topic = await self.resolver.find_or_create(NAME, schema, strategy)
        await self.seen()
        return (await self.producers.create(topic, name, AccessMode.SHARED)).producer_id

    async def stored(self) -> list[bytes]:
        entries = await self.log.read(BUNDLE, 1, frames_max=10**6, bytes_max=1 << 40)
        sections = [section for entry in entries for section in decode_frame(entry.frame).sections]
        return [section.message(i) for section in sections for i in range(len(section))]


@asynccontextmanager
async def open_scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await Namespaces(scene.store).create("default")
    await scene.store.put(keys.LAYOUT, encode_record(Layout(1, 1)))
    epoch = await scene.store.put(keys.owner_key(BUNDLE), encode_record(Claim("o", "n")))
    await scene.bus.serve(owner_subject(BUNDLE, epoch), scene.answer)
    scene.catalogue = await Catalogue.open(scene.store)
    owners = OwnerClient(scene.bus, scene.catalogue)
    scene.producers = Producers(owners, scene.catalogue)
    metrics = GatewayMetrics(scene.metrics)
    checks = SchemaChecks(metrics, SchemaWorker(), SchemaWorker())
    registry = SchemaRegistry(scene.store, now_ms=lambda: 1)
    subjects = SubjectChecks(TopicSchemaView(), registry, checks, metrics)
    evolution = SchemaEvolution(scene.store, registry, subjects)
    scene.resolver = TopicResolver(scene.topics, scene.catalogue, evolution)
    scene.publishing = Publishing(
        scene.producers,
        scene.catalogue,
        scene.log,
        scene.bus,
        scene.spawn,
        metrics,
        checks,
        subjects,
    )
    try:
        yield scene
    finally:
        await checks.close()
        for task in scene.tasks:
            task.cancel()
        await asyncio.gather(*scene.tasks, return_exceptions=True)
        await scene.catalogue.close()
        await scene.bus.close()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with open_scene() as scene:
        yield scene


# The way of a message


async def test_a_reliable_message_is_in_the_log_when_it_is_answered(scene: Scene) -> None:
    producer = await scene.producer()
    await scene.publishing.publish(producer, 0, b"text", b"whole message")
    assert await scene.stored() == [b"whole message"]


async def test_a_non_reliable_message_goes_to_the_owner_and_not_to_the_log(scene: Scene) -> None:
    producer = await scene.producer(strategy=Strategy())
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    await scene.bus.subscribe(non_reliable_subject(BUNDLE), frames.put_nowait)
    await scene.publishing.publish(producer, 0, b"text", b"whole message")
    assert decode_frame(await frames.get()).sections[0].messages == b"whole message"
    assert await scene.stored() == []


async def test_a_non_reliable_message_that_nothing_holds_up_is_published_in_one_step(scene: Scene) -> None:
    producer = await scene.producer(NOTHING_TO_CHECK, Strategy())
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    await scene.bus.subscribe(non_reliable_subject(BUNDLE), frames.put_nowait)
    scene.publishing.producer_created(producer)
    known = scene.producers.known(producer)
    assert known is not None
    publish = scene.publishing.publish_at_once
    second = asyncio.create_task(scene.publishing.publish(producer, 1, b"2", b"second"))
    await asyncio.sleep(0)
    assert not publish(known, 2, b"3", b"third")  # the first has not come
    assert publish(known, 0, b"1", b"first")
    await second
    assert publish(known, 2, b"3", b"third")
    sections = [section for frame in [await frames.get()] for section in decode_frame(frame).sections]
    while sum(map(len, sections)) < 3:
        sections += decode_frame(await frames.get()).sections
    messages = [section.message(index) for section in sections for index in range(len(section))]
    assert messages == [b"first", b"second", b"third"]


async def test_a_reliable_message_is_queued_in_one_step_and_in_order_and_in_the_log_when_it_is_answered(
    scene: Scene,
) -> None:
    producer = await scene.producer(NOTHING_TO_CHECK)
    scene.publishing.producer_created(producer)
    known = scene.producers.known(producer)
    assert known is not None
    second = asyncio.create_task(scene.publishing.publish(producer, 1, b"2", b"second"))
    await asyncio.sleep(0)
    first = scene.publishing.publish_at_once(known, 0, b"1", b"first")
    third = scene.publishing.publish_at_once(known, 2, b"3", b"third")
    for stored in (first, third):
        assert not isinstance(stored, bool)
        assert await stored
    await second
    assert await scene.stored() == [b"first", b"second", b"third"]
    labels = f'{{producer="{producer}",topic="{NAME}"}}'
    assert f"danube_topic_msg_in_counter{labels} 3.0" in scene.metrics.render().decode()


async def test_a_message_that_is_not_stored_is_refused_and_counted_and_makes_room_for_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = await scene.producer(NOTHING_TO_CHECK)
    scene.publishing.producer_created(producer)
    known = scene.producers.known(producer)
    assert known is not None
    monkeypatch.setattr("danube_gateway.publish.publishing.PRODUCER_BYTES_MAX", 5)
    with monkeypatch.context() as while_it_fails:
        while_it_fails.setattr(scene.log, "append", not_stored)
        first = scene.publishing.publish_at_once(known, 0, b"1", b"first")
        assert not isinstance(first, bool)
        assert scene.publishing.publish_at_once(known, 1, b"2", b"x") is False
        with pytest.raises(LogUnavailable):
            await first
    second = scene.publishing.publish_at_once(known, 1, b"2", b"again")
    assert not isinstance(second, bool)
    await second
    assert await scene.stored() == [b"again"]
    counted = scene.publishing.metrics.publish_failures
    assert counted.labels(str(NAME), "unavailable")._value.get() == 1


async def not_stored(*_: object, **__: object) -> None:
    raise LogUnavailable("not stored")


@pytest.mark.parametrize("why", ["schema", "size", "envelope", "rate", "draining"])
async def test_what_may_be_refused_or_wait_is_not_published_in_one_step(scene: Scene, why: str) -> None:
    schema = TEXT if why == "schema" else NOTHING_TO_CHECK
    producer = await scene.producer(schema, DISK)
    scene.publishing.producer_created(producer)
    known = scene.producers.known(producer)
    assert known is not None
    message = b"whole message"
    match why:
        case "size":
            await scene.topics.set_policies(NAME, PolicyOverrides(max_message_size=3))
        case "envelope":
            message = bytes(ENVELOPE_BYTES_MAX + 5)
        case "rate":
            await scene.topics.set_policies(NAME, PolicyOverrides(max_publish_rate=10))
        case "draining":
            scene.publishing.drain()
    await scene.seen()
    assert not scene.publishing.publish_at_once(known, 0, b"text", message)


async def test_a_producer_made_at_another_gateway_is_looked_up_once(scene: Scene) -> None:
    producer = await scene.producer()
    scene.producers._known.clear()
    for number in range(3):
        await scene.publishing.publish(producer, number, b"x", b"x")
    assert scene.asked.count("FindProducer") == 1


@pytest.mark.parametrize("producer_id", [0, -5, 1 << 63, 12345, make_id(Bundle.parse("f9"), "p")])
async def test_an_unknown_producer_is_not_found(scene: Scene, producer_id: int) -> None:
    await scene.producer()
    with pytest.raises(NotFound):
        await scene.publishing.publish(producer_id, 0, b"x", b"x")
    assert await scene.stored() == []
    assert await scene.producers.exists(producer_id, 1.0) is False


async def test_a_payload_that_breaks_the_schema_is_refused_and_stored_nowhere(scene: Scene) -> None:
    producer = await scene.producer()
    with pytest.raises(SchemaViolation):
        await scene.publishing.publish(producer, 0, b"\xff", b"whole")
    assert await scene.stored() == []
    await scene.publishing.publish(producer, 1, b"fits", b"whole")


async def test_messages_that_are_not_published_are_counted_by_the_reason(scene: Scene) -> None:
    producer_id = await scene.producer()
    failures = (b"\xff", b"x" * 5_000_000, b"\xfe")
    for number, payload in enumerate(failures):
        with pytest.raises((SchemaViolation, LimitExceeded)):
            await scene.publishing.publish(producer_id, number, payload, payload)
    counted = scene.publishing.metrics.publish_failures
    assert counted.labels(str(NAME), "schema")._value.get() == 2
    assert counted.labels(str(NAME), "max_message_size")._value.get() == 1


async def test_sizes_are_limited_by_the_policy_in_force(scene: Scene) -> None:
    producer = await scene.producer()
    await scene.topics.set_policies(NAME, PolicyOverrides(max_message_size=10))
    await scene.seen()
    await scene.publishing.publish(producer, 0, b"x" * 10, b"x" * (10 + ENVELOPE_BYTES_MAX))
    for payload, message, sentence in (
        (11, 12, "max_message_size is 10 bytes: the payload has 11"),
        (
            10,
            11 + ENVELOPE_BYTES_MAX,
            f"the names and attributes of the message have {ENVELOPE_BYTES_MAX + 1} bytes",
        ),
    ):
        with pytest.raises(LimitExceeded) as refused:
            await scene.publishing.publish(producer, 1, b"x" * payload, b"x" * message)
        assert str(refused.value).startswith(sentence)
    assert len(await scene.stored()) == 1


async def test_a_changed_policy_holds_for_the_next_message_of_a_producer(scene: Scene) -> None:
    producer = await scene.producer()
    await scene.publishing.publish(producer, 0, b"x" * 11, b"x" * 11)
    await scene.topics.set_policies(NAME, PolicyOverrides(max_message_size=10))
    await scene.seen()
    with pytest.raises(LimitExceeded):
        await scene.publishing.publish(producer, 1, b"x" * 11, b"x" * 11)
    await scene.topics.set_policies(NAME, PolicyOverrides(max_message_size=12))
    await scene.seen()
    await scene.publishing.publish(producer, 2, b"x" * 11, b"x" * 11)


async def test_what_one_producer_has_waiting_is_bounded_and_more_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_gateway.publish.publishing.PRODUCER_BYTES_MAX", 100)
    producer, other = await scene.producer(), await scene.producer(name="other")
    early = [
        asyncio.create_task(scene.publishing.publish(producer, number, b"x", b"x" * 50)) for number in (1, 2)
    ]
    await scene.seen()
    with pytest.raises(LimitExceeded) as refused:
        await scene.publishing.publish(producer, 3, b"x", b"x")
    assert refused.value.limit == "producer_pending_bytes"
    await scene.publishing.publish(other, 0, b"x", b"x" * 50)
    early[0].cancel()
    await asyncio.wait(early[:1])
    await scene.publishing.publish(producer, 0, b"x", b"x")
    await early[1]
    await scene.publishing.publish(producer, 3, b"x", b"x" * 100)


async def test_messages_are_counted_with_their_bytes_when_metrics_are_read(scene: Scene) -> None:
    producer = await scene.producer()
    for round_number in (1, 2):
        for number in range(5):
            await scene.publishing.publish(producer, number, b"xy", b"xyz")
        rendered = scene.metrics.render().decode()
        labels = f'{{producer="{producer}",topic="{NAME}"}}'
        assert f"danube_topic_msg_in_counter{labels} {5.0 * round_number}" in rendered
        assert f"danube_topic_bytes_in_counter{labels} {10.0 * round_number}" in rendered
        assert f'danube_publish_seconds_count{{producer="{producer}"}} {5.0 * round_number}' in rendered


async def test_batches_are_counted_while_their_stream_is_open(scene: Scene) -> None:
    producer = await scene.publishing.producers.find(await scene.producer())
    stored = asyncio.Event()
    lane = BatchLane(scene.publishing, producer, lambda *_: stored.set(), lambda *_: None)
    scene.spawn(lane.run(), "lane")
    data = body_of([b"xyz"])
    ends = decode_frame(encode_frame(1, 1, [(7, [b"xyz"])])).sections[0].ends
    lane.add(lane.ready(1, Body(data, google_crc32c.value(data), ends), [Message(3, b"xy", None)]))
    await stored.wait()
    labels = f'{{producer="{producer.producer_id}",topic="{NAME}"}}'
    assert f"danube_topic_msg_in_counter{labels} 1.0" in scene.metrics.render().decode()
    lane.close()


async def test_a_new_producers_first_message_waits_for_none_if_its_first_number_is_known(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_gateway.publish.reorder_buffer.HOLD_S", 3600)
    producer = await scene.producer()
    for first in (1, 0, 1):
        scene.publishing.producer_created(producer, first)
        early = asyncio.create_task(scene.publishing.publish(producer, first + 1, b"x", b"2"))
        await scene.seen()
        assert not early.done()
        await scene.publishing.publish(producer, first, b"x", b"1")
        await early
    assert await scene.stored() == [b"1", b"2"] * 3


@pytest.mark.parametrize("burst", [(4, 0, 1, 2, 3), (4, 3, 2, 1, 0), (1, 0, 3, 2, 4)], ids=str)
async def test_calls_that_come_together_and_out_of_order_leave_in_order_and_in_one_frame(
    scene: Scene, burst: tuple[int, ...]
) -> None:
    producer = await scene.producer()
    scene.publishing.producer_created(producer, 0)
    calls = [scene.publishing.publish(producer, number, b"x", b"%d" % number) for number in burst]
    await asyncio.gather(*calls)
    assert await scene.stored() == [b"0", b"1", b"2", b"3", b"4"]
    assert len(await scene.log.read(BUNDLE, 1, frames_max=10, bytes_max=1 << 20)) == 1


async def test_a_message_that_is_refused_lets_those_that_waited_for_it_pass(scene: Scene) -> None:
    producer = await scene.producer()
    scene.publishing.producer_created(producer, 0)
    refused = bytes(ENVELOPE_BYTES_MAX + 2)
    messages = {2: b"2", 1: refused, 3: b"3", 0: b"0"}
    calls = (scene.publishing.publish(producer, number, b"x", one) for number, one in messages.items())
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), LimitExceeded, type(None), type(None)]
    assert await scene.stored() == [b"0", b"2", b"3"]


async def test_a_rate_slows_down_and_then_refuses(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(wait_s: float) -> None:
        slept.append(wait_s)

    producer = await scene.producer()
    await scene.topics.set_policies(NAME, PolicyOverrides(max_publish_rate=10))
    await scene.seen()
    monkeypatch.setattr("danube_gateway.publish.publishing.time.monotonic", lambda: 1000.0)
    monkeypatch.setattr("danube_gateway.publish.publishing.asyncio.sleep", sleep)
    for number in range(30):
        await scene.publishing.publish(producer, number, b"x", b"x")
    assert slept == [pytest.approx((number + 1) / 10) for number in range(20)]
    for number in range(30, 33):
        with pytest.raises(LimitExceeded) as refused:
            await scene.publishing.publish(producer, number, b"x", b"x")
        assert refused.value.limit == "max_publish_rate"
    monkeypatch.setattr("danube_gateway.publish.publishing.time.monotonic", lambda: 1000.1)
    await scene.publishing.publish(producer, 33, b"x", b"x")
    assert len(await scene.stored()) == 31


async def test_a_log_that_does_not_answer_is_told_and_the_next_message_may_pass(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = await scene.producer()

    async def fail(*_args: object, **_options: object) -> None:
        raise LogUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(scene.log, "append", fail)
        with pytest.raises(LogUnavailable):
            await scene.publishing.publish(producer, 0, b"x", b"x")
    await scene.publishing.publish(producer, 1, b"y", b"y")
    assert await scene.stored() == [b"y"]


async def test_a_deleted_topics_producers_are_forgotten(scene: Scene) -> None:
    producer = await scene.producer()
    await scene.topics.delete(NAME)
    await scene.seen()
    with pytest.raises(NotFound):
        await scene.publishing.publish(producer, 0, b"x", b"x")
    again = await scene.resolver.find_or_create(NAME, TEXT, DISK)
    await scene.seen()
    with pytest.raises(NotFound):
        await scene.publishing.publish(producer, 0, b"x", b"x")
    assert (await scene.producers.create(again, "p", AccessMode.SHARED)).producer_id == producer
    await scene.publishing.publish(producer, 0, b"x", b"x")


async def test_messages_of_one_producer_keep_their_order(scene: Scene) -> None:
    producer = await scene.producer()
    await asyncio.gather(*(scene.publishing.publish(producer, n, b"x", str(n).encode()) for n in range(200)))
    assert await scene.stored() == [str(n).encode() for n in range(200)]


async def test_calls_that_overtake_each_other_are_put_in_order(scene: Scene) -> None:
    producer = await scene.producer()
    for number in range(20):
        await scene.publishing.publish(producer, number, b"x", str(number).encode())
    late = [23, 20, 22, 24, 21]
    await asyncio.gather(*(scene.publishing.publish(producer, n, b"x", str(n).encode()) for n in late))
    assert await scene.stored() == [str(n).encode() for n in range(25)]


async def test_a_message_that_never_comes_holds_the_others_up_for_a_moment_only(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_gateway.publish.reorder_buffer.HOLD_S", 0.001)
    producer = await scene.producer()
    for number in [*range(20), 25, 26]:
        await scene.publishing.publish(producer, number, b"x", str(number).encode())
    assert (await scene.stored())[-2:] == [b"25", b"26"]


async def test_a_refused_message_does_not_hold_up_the_next(scene: Scene) -> None:
    producer = await scene.producer()
    for number in range(20):
        await scene.publishing.publish(producer, number, b"x", b"x")
    with pytest.raises(SchemaViolation):
        await scene.publishing.publish(producer, 20, b"\xff", b"x")
    results = await asyncio.gather(*(scene.publishing.publish(producer, n, b"x", b"x") for n in (21, 22)))
    assert results == [None, None]


# Producers


async def test_producers_that_publish_are_shown_to_their_owner(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_gateway.publish.producers.TOUCH_INTERVAL_S", 0.001)
    producer = await scene.producer()
    running = asyncio.create_task(scene.producers.run())
    while "TouchProducers" not in scene.asked:
        await scene.publishing.publish(producer, 0, b"x", b"x")
        await asyncio.sleep(0.001)
    scene.made.clear()

    async def publish_on() -> None:
        while True:
            await scene.publishing.publish(producer, 0, b"x", b"x")
            await asyncio.sleep(0.001)

    with pytest.raises(NotFound):
        await publish_on()
    running.cancel()


# Topics


async def test_a_missing_topic_is_made_once_for_all_who_ask(scene: Scene) -> None:
    topics: list[Topic] = await asyncio.gather(
        *(scene.resolver.find_or_create(NAME, TEXT, DISK) for _ in range(10))
    )
    assert len({topic.topic_id for topic in topics}) == 1


@pytest.mark.parametrize(("schema", "strategy"), [(None, DISK), (TEXT, None), (None, None)])
async def test_a_missing_topic_is_not_made_from_half_a_description(
    scene: Scene, schema: Schema | None, strategy: Strategy | None
) -> None:
    with pytest.raises(InvalidInput):
        await scene.resolver.find_or_create(NAME, schema, strategy)
    assert await scene.resolver.find(NAME) is None


async def test_a_topic_that_differs_from_what_is_asked_is_refused(scene: Scene) -> None:
    topic = await scene.resolver.find_or_create(NAME, TEXT, DISK)
    assert await scene.resolver.find_or_create(NAME, None, None) == topic
    for schema, strategy in ((Schema("s", SchemaKind.BYTES), DISK), (TEXT, Strategy())):
        with pytest.raises(InvalidInput, match="differs"):
            await scene.resolver.find_or_create(NAME, schema, strategy)


async def test_a_topic_of_a_missing_namespace_is_not_made(scene: Scene) -> None:
    with pytest.raises(NotFound):
        await scene.resolver.find_or_create(TopicName.parse("/nowhere/t"), TEXT, DISK)


async def test_a_topic_exists_once(scene: Scene) -> None:
    await scene.topics.create(NAME, TEXT, DISK)
    with pytest.raises(AlreadyExists):
        await scene.topics.create(NAME, TEXT, DISK)


async def test_a_gateway_that_drains_takes_only_what_belongs_before_what_it_took(scene: Scene) -> None:
    producer_id = await scene.producer()
    for number in range(10):
        await scene.publishing.publish(producer_id, number, b"x", b"x")
    late = asyncio.create_task(scene.publishing.publish(producer_id, 11, b"x", b"x"))
    await scene.seen()
    assert not late.done(), "10 has not come yet"
    scene.publishing.drain()
    with pytest.raises(Unavailable, match="shutting down"):
        await scene.publishing.publish(producer_id, 12, b"x", b"x")
    await scene.publishing.publish(producer_id, 10, b"x", b"x")
    await late
    with pytest.raises(Unavailable, match="shutting down"):
        await scene.publishing.publish(await scene.producer(name="new"), 0, b"x", b"x")


async def test_a_message_whose_check_takes_longer_is_not_overtaken_by_the_next(scene: Scene) -> None:
    producer = await scene.producer(Schema("s", SchemaKind.JSON))
    await check_a_large_payload_between_others(scene, producer, first=0, step=1)


async def test_that_holds_for_a_producer_that_does_not_count_by_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = await scene.producer(Schema("s", SchemaKind.JSON))
    with monkeypatch.context() as patch:
        patch.setattr("danube_gateway.publish.reorder_buffer.HOLD_S", 0.001)
        for number in (5000, 10_000):
            await scene.publishing.publish(producer, number, b"0", b"0")
    await check_a_large_payload_between_others(scene, producer, first=15_000, step=5000)


async def check_a_large_payload_between_others(scene: Scene, producer: int, first: int, step: int) -> None:
    before = await scene.stored()
    large = b"[" + b"[]," * 200_000 + b"[]]"
    await asyncio.gather(
        *(
            scene.publishing.publish(producer, first + step * number, payload, payload[:10])
            for number, payload in enumerate((b"0", large, b"2", b"3"))
        )
    )
    assert (await scene.stored())[len(before) :] == [b"0", large[:10], b"2", b"3"]
