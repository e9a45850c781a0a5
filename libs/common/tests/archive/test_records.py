from __future__ import annotations

import pytest

from danube_common.archive.records import SHARED, DeletedSegment, ManifestEntry, SegmentRecord
from danube_common.cluster.records import Topic
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy

DISK, S3 = StorageBackend.DISK, StorageBackend.S3
TOPIC = 7


def topic(backend: StorageBackend | None) -> Topic:
    strategy = Strategy() if backend is None else Strategy(ReliableOptions(storage=backend))
    return Topic("/default/t", TOPIC, "f0", Schema("s", SchemaKind.BYTES), strategy, 0, 0)


def record(key: str, topic_id: int, first_position: int, backend: StorageBackend = DISK) -> SegmentRecord:
    return SegmentRecord(key, backend, topic_id, first_position, first_position + 9, 1, 0, 1, 1, 100, 0)


def entry(*segments: SegmentRecord, deleted: tuple[DeletedSegment, ...] = ()) -> ManifestEntry:
    return ManifestEntry("f0", 1, 9, 1, "a", segments, deleted)


OWN = (record("second", TOPIC, 30), record("first", TOPIC, 10))
SHARED_ONES = (record("shared", SHARED, 1), record("shared in s3", SHARED, 1, S3))
OTHERS = (record("another topic's", 8, 1),)
GONE = DeletedSegment(TOPIC, 1, 5, 1, 100)


@pytest.mark.parametrize(
    ("one", "backend", "keys"),
    [
        (entry(*SHARED_ONES, *OWN, *OTHERS), DISK, ["first", "second"]),
        (entry(*SHARED_ONES, *OTHERS), DISK, ["shared"]),
        (entry(*SHARED_ONES, *OTHERS), S3, ["shared in s3"]),
        (entry(*SHARED_ONES, *OTHERS, deleted=(GONE,)), DISK, []),
        (entry(*SHARED_ONES, *OTHERS), None, []),
        (entry(*OTHERS), DISK, []),
    ],
    ids=["own", "shared on disk", "shared in S3", "own that were deleted", "non-reliable", "neither"],
)
def test_a_topics_messages_are_in_its_own_segments_or_in_shared_ones_on_its_backend(
    one: ManifestEntry, backend: StorageBackend | None, keys: list[str]
) -> None:
    assert [found.key for found in one.segments_for(topic(backend))] == keys
