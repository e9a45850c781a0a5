from __future__ import annotations

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import SHARED, DeletedSegment, ManifestEntry, SegmentRecord
from danube_common.cluster.records import Topic
from danube_common.model.bundle import Bundle
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_harness.memory.metadata import MemoryMetadata
from danube_topic_owner.catchup.expiry import gone_after, next_gone

BUNDLE = Bundle.parse("f0")
STRATEGY = Strategy(ReliableOptions(storage=StorageBackend.DISK))
TOPIC = Topic("/default/t", 7, str(BUNDLE), Schema("s", SchemaKind.BYTES), STRATEGY, 0, 0)


def retained(topic_id: int, first: int, last: int) -> SegmentRecord:
    return SegmentRecord(f"k{first}", StorageBackend.DISK, topic_id, first, last, 1, 0, 0, 0, 0, 0)


async def manifest(*segments: SegmentRecord, deleted: tuple[DeletedSegment, ...] = ()) -> Manifest:
    found = await Manifest.open(MemoryMetadata(), BUNDLE)
    await found.add(ManifestEntry(str(BUNDLE), 1, 9, 0, "a", segments, deleted))
    return found


async def test_a_gap_counts_own_segments_that_begin_behind_a_position() -> None:
    found = await manifest(
        retained(TOPIC.topic_id, 30, 39),
        deleted=(DeletedSegment(TOPIC.topic_id, 10, 19, 5, 0), DeletedSegment(TOPIC.topic_id, 20, 29, 6, 0)),
    )
    gap = gone_after(found, TOPIC, 0, 10)
    assert gap is not None
    assert [gap.messages_after(position) for position in (0, 9, 10, 19, 20)] == [11, 11, 6, 6, 0]
    assert gap.through == 29
    await found.close()


async def test_a_shared_segment_that_another_backend_deleted_is_no_gap() -> None:
    deleted = (DeletedSegment(SHARED, 5, 12, 1, 0), DeletedSegment(SHARED, 15, 20, 1, 0))
    found = await manifest(retained(SHARED, 10, 30), deleted=deleted)
    assert gone_after(found, TOPIC, 0, 10) is None
    assert next_gone(found, TOPIC, 0, 30) is None
    await found.close()


async def test_a_deleted_shared_segment_is_a_gap_of_unknown_size() -> None:
    found = await manifest(retained(SHARED, 21, 30), deleted=(DeletedSegment(SHARED, 10, 20, 1, 0),))
    gap = gone_after(found, TOPIC, 0, 10)
    assert gap is not None
    assert (gap.through, gap.messages_after(0)) == (20, 0)
    assert gone_after(found, TOPIC, 20, 10) is None
    await found.close()
