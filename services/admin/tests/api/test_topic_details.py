from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from danube_admin_service.api.effective_policies import EffectivePolicies
from danube_admin_service.api.errors import status_of
from danube_admin_service.api.topic_details import TopicDetails
from danube_admin_service.cluster.view import Cluster
from danube_admin_service.service import OWNER_TIMEOUT_S
from danube_common.archive.records import (
    SHARED,
    ArchiverLease,
    BundleArchive,
    DeletedSegment,
    Deletions,
    ManifestEntry,
    MemoryLogState,
    SegmentRecord,
)
from danube_common.cluster import keys
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Instance, Layout, Topic, encode_record
from danube_common.cluster.topics import Topics
from danube_common.model.names import TopicName
from danube_common.model.policies import PolicyOverrides
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType
from danube_common.rpc.port import Call, RpcError, StatusCode, answered
from danube_common.wire.owner.topics import SubscriptionDetail
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.services.fake_owner import FakeOwner
from danube_proto import danube_platform_pb2 as pb

LAYOUT = Layout(file_bundles=1, memory_bundles=1)
DISK = Strategy(ReliableOptions(storage=StorageBackend.DISK))
PREFIX = "/danube_platform.TopicDetails"
START = pb.SubscriptionStart

A = TypeVar("A", bound=Message)


@dataclass
class Scene:
    store: MemoryMetadata
    topics: Topics
    owner: FakeOwner
    owners: OwnerClient
    details: TopicDetails

    async def topic(self, name: str = "/default/a", strategy: Strategy = DISK) -> Topic:
        return await self.topics.create(TopicName.parse(name), Schema("s", SchemaKind.BYTES), strategy)

    async def manifest_entry(
        self, first: int, last: int, *segments: SegmentRecord, deleted: tuple[DeletedSegment, ...] = ()
    ) -> None:
        entry = ManifestEntry("f0", first, last, 0, "7", segments, deleted)
        await self.store.put(keys.manifest_key(LAYOUT.bundles()[0], first), encode_record(entry))

    async def call(self, request: Message, answer: type[A]) -> A:
        return answer.FromString(await self._answer(request))

    async def refused(self, request: Message) -> RpcError:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is becomes a status
            await self._answer(request)
        status = status_of(caught.value)
        assert status is not None
        return status

    async def _answer(self, request: Message) -> bytes:
        method = f"{PREFIX}/{type(request).__name__.removesuffix('Request')}"
        return await answered(self.details.methods()[method], Call(method, request.SerializeToString()))

    async def describe(self, name: str = "/default/a") -> list[pb.TopicDescription]:
        answer = await self.call(pb.DescribeTopicRequest(topic=name), pb.DescribeTopicResponse)
        return list(answer.topics)


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    store, bus = MemoryMetadata(), MemoryBus(MemoryHub())
    await store.put(keys.LAYOUT, encode_record(LAYOUT))
    namespaces = Namespaces(store)
    await namespaces.create("default")
    owner = FakeOwner(store, bus, "71")
    await owner.claim(LAYOUT.bundles())
    cluster = await Cluster.open(store)
    topics = Topics(store, MemoryLog(), now_ms=lambda: 1234)
    effective_policies = EffectivePolicies(store, namespaces, topics)
    owners = OwnerClient(bus, cluster, timeout_s=OWNER_TIMEOUT_S)
    details = TopicDetails(store, topics, owners, effective_policies)
    yield Scene(store, topics, owner, owners, details)
    await cluster.close()
    await bus.close()


def segment(key: str, topic_id: int, **given: object) -> SegmentRecord:
    fields = {
        "key": key,
        "backend": StorageBackend.DISK,
        "topic_id": topic_id,
        "first_position": 10,
        "last_position": 20,
        "messages": 5,
        "first_offset": 3,
        "published_ms_min": 100,
        "published_ms_max": 200,
        "size_bytes": 1000,
        "data_crc32c": 0,
        "holders": ("7", "8"),
    }
    return SegmentRecord(**{**fields, **given})  # type: ignore[arg-type]


async def test_a_description_says_how_a_topic_is_kept_and_by_whom(scene: Scene) -> None:
    topic = await scene.topic()
    await scene.topics.set_policies(topic.topic_name, PolicyOverrides(max_retained_mb=9))
    await scene.store.put(keys.archiver_key(topic.home), encode_record(ArchiverLease("7", "n")))
    (description,) = await scene.describe()
    assert (description.topic, description.topic_id, description.bundle) == (
        topic.name,
        topic.topic_id,
        topic.bundle,
    )
    assert (description.owner, description.archiver, description.schema_type) == ("71", "7", "bytes")
    claim = await scene.store.get(keys.owner_key(topic.home))
    assert claim is not None
    assert description.epoch == claim.revision
    assert (description.reliable, description.storage, description.segment_size_mb) == (True, "disk", 20)
    assert (description.retention, description.retention_period_s, description.created_ms) == (
        "expire",
        3600,
        1234,
    )
    assert json.loads(description.policies)["max_retained_mb"] == 9
    assert (description.log_first_sequence, description.log_last_sequence) == (4, 9)


async def test_a_description_adds_up_what_is_kept_and_what_was_deleted(scene: Scene) -> None:
    topic = await scene.topic()
    mine = topic.topic_id
    await scene.store.put(
        keys.archive_key(topic.home),
        encode_record(BundleArchive(forgotten_through=9, deletions={str(mine): Deletions(1, 2, 3)})),
    )
    compacted = DeletedSegment(mine, 1, 2, 2, 3)
    await scene.manifest_entry(1, 9, deleted=(compacted,))
    await scene.manifest_entry(
        10, 19, deleted=(DeletedSegment(mine, 1, 2, 20, 30), DeletedSegment(SHARED, 1, 2, 7, 8))
    )
    await scene.manifest_entry(
        20,
        29,
        segment("gone", mine, delete_after_ms=99),
        segment("one", mine, published_ms_min=50),
        segment("two", mine, published_ms_max=900, quarantined={"8": "bad entry"}),
        segment("other", mine + 1),
    )
    await scene.manifest_entry(
        30,
        39,
        segment("shared", SHARED, messages=70),
        segment("elsewhere", SHARED, backend=StorageBackend.S3, holders=()),
    )
    (description,) = await scene.describe()
    assert description.segments == [
        pb.SegmentTotals(storage="disk", segments=2, messages=10, size_bytes=2000)
    ]
    assert description.shared_segments == [
        pb.SegmentTotals(storage="disk", segments=1, messages=70, size_bytes=1000)
    ]
    assert (description.oldest_ms, description.newest_ms, description.archived_through) == (50, 900, 39)
    assert description.quarantined == [pb.QuarantinedSegment(key="two", holder="8", reason="bad entry")]
    assert description.deleted == pb.DeletedTotals(segments=2, messages=22, size_bytes=33)
    assert description.shared_deleted == pb.DeletedTotals(segments=1, messages=7, size_bytes=8)


async def test_a_description_lists_subscriptions_by_name(scene: Scene) -> None:
    topic = await scene.topic()
    scene.owner.details[topic.name] = [
        SubscriptionDetail("z", SubscriptionType.FAILOVER, [], 0, 5, backlog_exact=False, unacked=0),
        SubscriptionDetail(
            "a",
            SubscriptionType.SHARED,
            ["c1"],
            77,
            9,
            backlog_exact=True,
            unacked=3,
            lost=2,
            blocked="in quarantine",
        ),
    ]
    (description,) = await scene.describe()
    assert list(description.producers) == ["p"]
    assert [one.name for one in description.subscriptions] == ["a", "z"]
    assert description.subscriptions[0] == pb.SubscriptionDescription(
        name="a",
        type="shared",
        consumers=["c1"],
        mark_delete=77,
        backlog=9,
        backlog_exact=True,
        unacked=3,
        lost=2,
        blocked="in quarantine",
    )


async def test_without_its_owner_a_topic_is_described_as_far_as_it_is_known(
    scene: Scene,
) -> None:
    scene.owners.timeout_s = 0.1
    topic = await scene.topic()
    await scene.store.delete(keys.owner_key(topic.home))
    await scene.manifest_entry(1, 9, segment("one", topic.topic_id))
    (description,) = await scene.describe()
    assert (description.owner, description.epoch) == ("", 0)
    assert "no owner of bundle f0" in description.owner_problem
    assert description.segments[0].segments == 1


async def test_the_partitions_of_a_topic_are_described_one_by_one(scene: Scene) -> None:
    for number in (1, 0, 10):
        await scene.topic(f"/default/p-part-{number}", Strategy())
    descriptions = await scene.describe("/default/p")
    assert [one.topic for one in descriptions] == [f"/default/p-part-{number}" for number in (0, 1, 10)]
    assert not descriptions[0].reliable


async def test_segments_are_listed_oldest_first_with_where_they_are(scene: Scene) -> None:
    topic = await scene.topic()
    await scene.manifest_entry(
        10, 19, segment("late", topic.topic_id, delete_after_ms=5, quarantined={"7": "bad"})
    )
    await scene.manifest_entry(1, 4, segment("early", topic.topic_id))
    await scene.manifest_entry(5, 9, segment("shared", SHARED))
    answer = await scene.call(pb.ListSegmentsRequest(topic="/default/a"), pb.ListSegmentsResponse)
    assert [one.key for one in answer.segments] == ["early", "shared", "late"]
    assert [one.shared for one in answer.segments] == [False, True, False]
    assert answer.segments[2] == pb.Segment(
        topic="/default/a",
        key="late",
        storage="disk",
        holders=["7", "8"],
        first_position=10,
        last_position=20,
        messages=5,
        first_offset=3,
        size_bytes=1000,
        oldest_ms=100,
        newest_ms=200,
        delete_after_ms=5,
        quarantined=[pb.QuarantinedSegment(key="late", holder="7", reason="bad")],
        away=["7", "8"],
    )


async def test_segments_that_nothing_can_be_read_of_now_are_told(scene: Scene) -> None:
    topic = await scene.topic()
    await scene.store.put(keys.instance_key("7"), encode_record(Instance("7", "storage", "")))
    await scene.manifest_entry(1, 4, segment("on 7", topic.topic_id, copying=("9",)))
    await scene.manifest_entry(5, 9, segment("damaged", topic.topic_id, quarantined={"7": "bad"}))
    await scene.manifest_entry(10, 19, segment("away", topic.topic_id, holders=("8",)))
    await scene.manifest_entry(20, 29, segment("s3", topic.topic_id, backend=StorageBackend.S3, holders=()))
    answer = await scene.call(pb.ListSegmentsRequest(topic="/default/a"), pb.ListSegmentsResponse)
    assert [(one.key, one.unreadable, list(one.away), list(one.copying)) for one in answer.segments] == [
        ("on 7", False, ["8"], ["9"]),
        ("damaged", True, ["8"], []),
        ("away", True, ["8"], []),
        ("s3", False, [], []),
    ]
    (described,) = await scene.describe()
    assert [(row.storage, row.segments) for row in described.unreadable_segments] == [("disk", 2)]


async def test_the_topic_that_holds_a_memory_log_is_named(scene: Scene) -> None:
    await scene.topic(strategy=Strategy(ReliableOptions(storage=StorageBackend.MEMORY)))
    (described,) = await scene.describe()
    assert described.memory_log == pb.MemoryLog()
    archive = BundleArchive(memory_log=MemoryLogState("/default/other", 900, 7))
    bundle = next(each for each in LAYOUT.bundles() if str(each) == described.bundle)
    await scene.store.put(keys.archive_key(bundle), encode_record(archive))
    (described,) = await scene.describe()
    assert described.memory_log == pb.MemoryLog(size_bytes=900, oldest_ms=7, held_by="/default/other")


async def test_segments_from_before_the_topic_are_not_its_own(scene: Scene) -> None:
    await scene.manifest_entry(1, 9, segment("shared", SHARED))
    topic = await scene.topic()
    record = encode_record(msgspec.structs.replace(topic, log_floor=9))
    await scene.store.put(keys.topic_key(topic.topic_name), record)
    answer = await scene.call(pb.ListSegmentsRequest(topic="/default/a"), pb.ListSegmentsResponse)
    assert not answer.segments


@pytest.mark.parametrize(
    ("start", "asked"),
    [
        (START(), StartPosition(StartKind.EARLIEST)),
        (START(kind=START.LATEST), StartPosition(StartKind.LATEST)),
        (START(kind=START.POSITION, value=77), StartPosition(StartKind.POSITION, 77)),
        (START(kind=START.LAST, value=5), StartPosition(StartKind.LAST, 5)),
        (START(kind=START.TIME, value=9), StartPosition(StartKind.TIME, 9)),
    ],
)
async def test_a_subscription_is_reset_to_where_it_was_asked(
    scene: Scene, start: pb.SubscriptionStart, asked: StartPosition
) -> None:
    topic = await scene.topic()
    scene.owner.subscriptions[topic.name] = ["s"]
    request = pb.ResetSubscriptionRequest(topic=topic.name, subscription="s", start=start)
    answer = await scene.call(request, pb.ResetSubscriptionResponse)
    assert scene.owner.resets == [(topic.name, "s", asked)]
    assert answer.places == [pb.SubscriptionPlace(topic=topic.name, mark_delete=asked.value)]


async def test_a_subscription_of_a_partitioned_topic_is_reset_in_every_partition(scene: Scene) -> None:
    names = [f"/default/p-part-{number}" for number in range(3)]
    for name in names:
        await scene.topic(name)
        scene.owner.subscriptions[name] = ["s"]
    request = pb.ResetSubscriptionRequest(topic="/default/p", subscription="s")
    answer = await scene.call(request, pb.ResetSubscriptionResponse)
    assert [moved.topic for moved in answer.places] == names
    assert sorted(name for name, _, _ in scene.owner.resets) == names


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (pb.DescribeTopicRequest(topic="/default/none"), StatusCode.NOT_FOUND, "does not exist"),
        (pb.DescribeTopicRequest(topic="none"), StatusCode.INVALID_ARGUMENT, "/namespace/topic"),
        (pb.ListSegmentsRequest(topic="/default/none"), StatusCode.NOT_FOUND, "does not exist"),
        (
            pb.ResetSubscriptionRequest(topic="/default/a", subscription="s"),
            StatusCode.NOT_FOUND,
            "'s' does not exist",
        ),
        (
            pb.ResetSubscriptionRequest(topic="/default/a", subscription=""),
            StatusCode.INVALID_ARGUMENT,
            "empty",
        ),
        (
            pb.ResetSubscriptionRequest(
                topic="/default/p", subscription="s", start=START(kind=START.POSITION, value=5)
            ),
            StatusCode.INVALID_ARGUMENT,
            "name a partition",
        ),
        (
            pb.ResetSubscriptionRequest(
                topic="/default/a", subscription="s", start=START(kind=START.LATEST, value=5)
            ),
            StatusCode.INVALID_ARGUMENT,
            "takes no value",
        ),
    ],
)
async def test_what_cannot_be_told_or_done_is_refused_with_the_reason(
    scene: Scene, request_: Message, code: StatusCode, words: str
) -> None:
    await scene.topic()
    for number in (0, 1):
        await scene.topic(f"/default/p-part-{number}")
    status = await scene.refused(request_)
    assert status.code is code
    assert words in status.message
    assert not scene.owner.resets
