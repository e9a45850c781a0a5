from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_admin_service.backup.plan import fits, held_by, is_kept, settled, with_floor_of, without
from danube_common.archive.records import DeletedSegment, ManifestEntry, SegmentRecord
from danube_common.cluster import keys
from danube_common.errors import CorruptData
from danube_common.model.bundle import Bundle
from danube_common.model.strategy import StorageBackend

F0 = Bundle.parse("f0")


def segment(key: str, **changed: object) -> SegmentRecord:
    fields: dict[str, object] = {
        "key": key,
        "backend": StorageBackend.DISK,
        "topic_id": 7,
        "first_position": 10,
        "last_position": 19,
        "messages": 5,
        "first_offset": 0,
        "published_ms_min": 1,
        "published_ms_max": 2,
        "size_bytes": 100,
        "data_crc32c": 3,
        "holders": ("1", "2"),
    }
    return SegmentRecord(**{**fields, **changed})  # type: ignore[arg-type]


def entry(*segments: SegmentRecord) -> ManifestEntry:
    return ManifestEntry("f0", 1, 9, 0, "1", segments)


def test_processes_are_not_part_of_a_backup_and_everything_else_is() -> None:
    for key in (keys.LEADER, keys.owner_key(F0), keys.instance_key("1"), keys.archiver_key(F0)):
        assert not is_kept(key)
    for key in (keys.LAYOUT, keys.ARCHIVE_ID, keys.manifest_key(F0, 1), keys.role_key("r"), "/new/thing"):
        assert is_kept(key)


@given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 20))
def test_a_manifest_and_a_log_fit_if_no_sequence_is_missing_and_none_comes_again(
    through: int, first: int, last: int
) -> None:
    if first > last + 1:
        return  # no stream has such bounds
    held = set(range(1, through + 1)) | set(range(first, last + 1))
    missing = set(range(1, max(through, last) + 1)) - held
    given_out_again = last + 1 <= through
    assert fits(through, first, last) == (not given_out_again and not missing and first <= through + 1)


def test_segments_that_retention_took_are_counted_as_deleted() -> None:
    marked = entry(segment("a"), segment("b", delete_after_ms=1))
    gone = DeletedSegment(7, 10, 19, 5, 100)
    assert [one.key for one in settled(marked).segments] == ["a"]
    assert settled(marked).deleted == (gone,)
    assert without(marked, {"a", "b"}).deleted == (gone, gone)
    assert without(marked, ()) == marked


def test_a_restored_cluster_has_all_disk_segments_at_one_instance_and_none_in_quarantine() -> None:
    damaged = segment("a", quarantined={"1": "x"}, copying=("3",))
    remote = segment("b", backend=StorageBackend.S3, holders=())
    first, second = held_by(entry(damaged, remote), "9").segments
    assert (first.holders, first.copying, first.quarantined) == (("9",), (), {})
    assert second == remote


def test_a_topic_that_was_created_after_its_log_was_copied_sees_what_the_restored_log_stores() -> None:
    later = json.dumps({"name": "/a/b", "bundle": "f0", "log_floor": 9, "new": 1}).encode()
    assert json.loads(with_floor_of(later, {"f0": 5})) == {
        "name": "/a/b",
        "bundle": "f0",
        "log_floor": 5,
        "new": 1,
    }
    assert with_floor_of(later, {"f0": 9}) == with_floor_of(later, {"f1": 0}) == later
    assert with_floor_of(b'{"partitions": 2}', {"f0": 5}) == b'{"partitions": 2}'
    with pytest.raises(CorruptData):
        with_floor_of(b"[]", {})
