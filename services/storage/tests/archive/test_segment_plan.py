from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.archive.records import SHARED, ManifestEntry, SegmentRecord
from danube_common.cluster.records import Topic
from danube_common.errors import LogUnavailable
from danube_common.log.port import LogBounds
from danube_common.model.bundle import Bundle
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.segment.format import ENTRY_HEAD_BYTES
from danube_common.wire.frame import RawSection, encode_frame
from danube_harness.memory.log import MemoryLog
from danube_storage.archive.log_range import CorruptFrame, LogRange, RangeSection, read_range
from danube_storage.archive.seal_rules import SealLimits, SealRules, seal_limits, topic_rules
from danube_storage.archive.segment_plan import PlannedSegment, TopicRule, plan_segments
from danube_storage.archive.sweep import orphans
from danube_storage.archive.unarchived import HoldBudget, UnarchivedBytes

BUNDLE = Bundle.parse("f0")
TOPICS = range(1, 9)
OWN_MIN = 500
RULES = {
    topic_id: TopicRule(StorageBackend.S3 if topic_id % 2 else StorageBackend.DISK, 300 * topic_id)
    for topic_id in TOPICS[:-1]
}
"""Of the last topic nothing is known: it was deleted."""


@st.composite
def log_ranges(draw: st.DrawFn) -> LogRange:
    frames = draw(st.lists(st.dictionaries(st.sampled_from(TOPICS), st.integers(8, 700)), max_size=12))
    sections = [
        RangeSection(sequence, number, 1000 + sequence, RawSection(topic_id, 1, bytes(size), 0))
        for sequence, frame in enumerate(frames, 1)
        for number, (topic_id, size) in enumerate(frame.items())
    ]
    return LogRange(1, max(len(frames), 1), sections, 0)


@given(log_ranges(), st.integers(1, 4))
def test_a_plan_holds_each_section_once_in_log_order_and_keeps_the_bounds(
    log_range: LogRange, topics_max: int
) -> None:
    plan = plan_segments(log_range, RULES, own_bytes_min=OWN_MIN, topics_max=topics_max)
    planned = Counter((s.sequence, s.number) for segment in plan for s in segment.sections)
    assert planned == Counter((s.sequence, s.number) for s in log_range.sections if s.raw.topic_id in RULES)
    for segment in plan:
        places = [section.first_position for section in segment.sections]
        assert all(a < b for a, b in pairwise(places))
        of = {section.raw.topic_id for section in segment.sections}
        assert {RULES[topic_id].backend for topic_id in of} == {segment.backend}
        if segment.topic_id == SHARED:
            assert len(of) <= topics_max
        else:
            assert of == {segment.topic_id}
            assert _size(segment) <= RULES[segment.topic_id].segment_bytes_max or len(segment.sections) == 1


@given(log_ranges(), st.integers(1, 4))
def test_a_topic_is_either_in_its_own_segments_or_in_one_shared_one(
    log_range: LogRange, topics_max: int
) -> None:
    plan = plan_segments(log_range, RULES, own_bytes_min=OWN_MIN, topics_max=topics_max)
    places: dict[int, list[int]] = {}
    for segment in plan:
        for topic_id in {section.raw.topic_id for section in segment.sections}:
            places.setdefault(topic_id, []).append(segment.topic_id)
    for topic_id, kinds in places.items():
        assert kinds == [SHARED] or set(kinds) == {topic_id}
        total = sum(section.entry_bytes for section in log_range.by_topic[topic_id])
        enough = min(OWN_MIN, RULES[topic_id].segment_bytes_max)
        assert (kinds == [SHARED]) == (total < enough)


def test_a_manifest_entry_of_many_busy_topics_still_has_a_bounded_size() -> None:
    sections = [RangeSection(n, 0, 1, RawSection(n % 500 + 1, 1, bytes(200), 0)) for n in range(1, 5000)]
    rules = {topic_id: TopicRule(StorageBackend.DISK, 300) for topic_id in range(1, 501)}
    plan = plan_segments(LogRange(1, 5000, sections, 0), rules, own_bytes_min=1, segments_aimed=20)
    assert len(plan) <= 3 * 20
    assert sum(len(segment.sections) for segment in plan) == len(sections)


def test_a_segment_of_the_topics_size_is_not_larger_than_that_with_everything_around_it() -> None:
    (rule,) = topic_rules([_topic(1, segment_size_mb=1)]).values()
    assert rule.segment_bytes_max + ENTRY_HEAD_BYTES < 1 << 20
    assert topic_rules([_topic(1, storage=StorageBackend.MEMORY)]) == {}


def test_a_seal_is_due_by_the_largest_segment_size_or_the_shortest_period() -> None:
    rules = SealRules(seal_age_s=600, seal_bytes_max=64 << 20)
    expire = Retention.UNTIL_EXPIRE
    assert seal_limits(rules, []) == SealLimits(64 << 20, 600, 64 << 20)
    assert seal_limits(rules, [_topic(1, segment_size_mb=5), _topic(2, segment_size_mb=9)]).bytes == 9 << 20
    assert (
        seal_limits(rules, [_topic(1, segment_size_mb=5), _topic(2, segment_size_mb=9)]).bytes_min == 5 << 20
    )
    assert seal_limits(rules, [_topic(1, segment_size_mb=900)]).bytes == 64 << 20
    short = [_topic(1, retention=expire, retention_period_s=40), _topic(2)]
    assert seal_limits(rules, short).age_s == 10
    assert seal_limits(rules, [_topic(1, retention=expire, retention_period_s=0)]).age_s == 1
    kept = [_topic(1, retention=Retention.UNTIL_ACK, retention_period_s=40)]
    assert seal_limits(rules, kept).age_s == 600


@pytest.mark.parametrize(
    ("bounds", "now_ms", "due"),
    [
        (LogBounds(5, 4, 0, 0), 10**9, False),
        (LogBounds(5, 5, 99, 1000), 10_999, False),
        (LogBounds(5, 5, 100, 1000), 1000, True),
        (LogBounds(5, 5, 1, 1000), 11_000, True),
    ],
)
def test_a_seal_is_due_when_there_is_enough_or_it_is_old_enough(
    bounds: LogBounds, now_ms: int, *, due: bool
) -> None:
    assert SealLimits(100, 10).due(bounds, now_ms) is due


async def test_a_log_range_ends_where_it_must_and_where_it_is_full() -> None:
    log = await _log([b"m" * 100] * 10)
    whole = await read_range(log, BUNDLE, 3, 8, bytes_max=1 << 20)
    assert [section.sequence for section in whole.sections] == [3, 4, 5, 6, 7, 8]
    assert (whole.first_sequence, whole.last_sequence, whole.missing) == (3, 8, 0)
    part = await read_range(log, BUNDLE, 3, 8, bytes_max=200)
    assert 3 <= part.last_sequence < 8
    assert len(part.sections) == part.last_sequence - 2
    with pytest.raises(LogUnavailable):
        await read_range(log, BUNDLE, 3, 11, bytes_max=1 << 20)


async def test_a_seal_by_size_fills_whole_segments_and_leaves_the_rest_for_the_next() -> None:
    log = await _log([b"m" * 100] * 10)
    everything = await read_range(log, BUNDLE, 1, 10, bytes_max=1 << 20)
    frame_bytes = everything.sections[0].entry_bytes
    for frames, taken in ((1, 9), (3, 9), (4, 8), (6, 6), (10, 10), (11, 10)):
        for topic_id in (None, everything.sections[0].raw.topic_id):
            part = everything.whole_segments(frames * frame_bytes, topic_id)
            assert (part.first_sequence, part.last_sequence, part.missing) == (1, taken, 0)
            assert [section.sequence for section in part.sections] == list(range(1, taken + 1))


@pytest.mark.parametrize("held", [True, False], ids=["range held", "range too large to hold"])
async def test_a_topic_that_fills_a_segment_is_found_among_larger_ones_and_counted_once(held: bool) -> None:
    log = MemoryLog()
    await log.open(BUNDLE)
    for number in range(1, 9):
        small = [(1, [b"m" * 100])] if number % 2 else []
        frame = encode_frame(1, number, [*small, (2, [b"n" * 100])])
        await log.append(BUNDLE, frame, frame_id=str(number), timeout_s=1)
    entry_bytes = (await read_range(log, BUNDLE, 1, 1, bytes_max=1)).sections[0].entry_bytes
    rules = {
        1: TopicRule(StorageBackend.DISK, 3 * entry_bytes),
        2: TopicRule(StorageBackend.DISK, 100 * entry_bytes),
    }
    budget = HoldBudget(1 << 20 if held else entry_bytes)
    bytes_free = budget.bytes_free
    pending = UnarchivedBytes(budget)
    full: list[int | None] = []
    for last in range(1, 9):
        pending.count(await read_range(log, BUNDLE, pending.through + 1, last, bytes_max=1 << 20))
        full.append(pending.full_topic(rules))
    assert full == [None] * 4 + [1] * 4
    everything = await read_range(log, BUNDLE, 1, 8, bytes_max=1 << 20)
    assert pending.log_range == (everything if held else None)
    sealed = everything.whole_segments(rules[1].segment_bytes_max, 1)
    assert sealed.last_sequence == 6
    pending.archived(sealed.last_sequence)
    assert (pending.through, pending.full_topic(rules)) == (8 if held else 6, None)
    rest = await read_range(log, BUNDLE, 7, 8, bytes_max=1 << 20)
    assert pending.log_range == (rest if held else None)
    assert budget.bytes_free == bytes_free - sum(s.entry_bytes for s in rest.sections) * held
    pending.release()
    assert budget.bytes_free == bytes_free


async def test_frames_that_the_log_has_lost_of_a_range_are_counted() -> None:
    log = await _log([b"m"] * 6)
    await log.purge(BUNDLE, 2)
    log_range = await read_range(log, BUNDLE, 1, 6, bytes_max=1 << 20)
    assert (log_range.last_sequence, log_range.missing, len(log_range.sections)) == (6, 2, 4)


async def test_a_corrupt_frame_ends_a_log_range_before_it_or_is_reported() -> None:
    log = await _log([b"m", b"m"])
    await log.append(BUNDLE, b"not a frame", frame_id="x", timeout_s=1)
    log_range = await read_range(log, BUNDLE, 1, 3, bytes_max=1 << 20)
    assert (log_range.last_sequence, log_range.missing) == (2, 0)
    with pytest.raises(CorruptFrame) as told:
        await read_range(log, BUNDLE, 3, 3, bytes_max=1 << 20)
    assert told.value.entry.sequence == 3


def test_an_orphan_is_what_no_manifest_entry_names_and_none_ever_will() -> None:
    def key(first: int, attempt: str) -> str:
        return f"f0/shared/{first:016x}-0000.{attempt}"

    record = SegmentRecord(key(1, "a"), StorageBackend.DISK, SHARED, 1, 2, 1, 0, 0, 0, 9, 0, holders=("7",))
    manifest = [ManifestEntry("f0", 1, 10, 0, "7", (record,)), ManifestEntry("f0", 11, 20, 0, "7", ())]
    held = [key(1, "a"), key(1, "b"), key(11, "c"), key(21, "d"), "f0/corrupt/0000000000000001.e", "f0/x"]
    assert orphans(held, manifest, StorageBackend.DISK) == [key(1, "b"), key(11, "c")]
    assert orphans(held, manifest, StorageBackend.DISK, "7") == [key(1, "b"), key(11, "c")]
    assert orphans(held, manifest, StorageBackend.DISK, "8") == [key(1, "a"), key(1, "b"), key(11, "c")]
    assert orphans(held, [], StorageBackend.DISK) == []
    moved = msgspec.structs.replace(record, backend=StorageBackend.S3, holders=())
    entries = [msgspec.structs.replace(manifest[0], segments=(moved,))]
    assert orphans(held[:1], entries, StorageBackend.DISK, "7") == held[:1]
    assert orphans(held[:1], entries, StorageBackend.S3) == []
    waiting = msgspec.structs.replace(record, bound_for=StorageBackend.S3)
    entries = [msgspec.structs.replace(manifest[0], segments=(waiting,))]
    assert orphans(held[:1], entries, StorageBackend.S3) == [], "it may be written right now"


async def _log(messages: list[bytes]) -> MemoryLog:
    log = MemoryLog()
    await log.open(BUNDLE)
    for number, message in enumerate(messages):
        await log.append(BUNDLE, encode_frame(1, number, [(1, [message])]), frame_id=str(number), timeout_s=1)
    return log


def _topic(topic_id: int, **options: object) -> Topic:
    values = {"storage": StorageBackend.DISK, "retention_period_s": 10**6} | options
    strategy = Strategy(ReliableOptions(**values))  # type: ignore[arg-type]
    return Topic(f"/default/t{topic_id}", topic_id, "f0", Schema("s", SchemaKind.BYTES), strategy, 0, 0)


def _size(segment: PlannedSegment) -> int:
    return sum(section.entry_bytes for section in segment.sections)
