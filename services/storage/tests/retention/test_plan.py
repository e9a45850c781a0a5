"""What may be deleted, decided without I/O: a model in which every message is known against the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.archive.deletions import compacted, deletions
from danube_common.archive.records import SHARED, BundleArchive, Deletions, ManifestEntry, SegmentRecord
from danube_common.model.policies import Policies
from danube_common.model.position import end_of_sequence, position_of
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend
from danube_common.segment.format import TopicRange
from danube_storage.retention.plan import (
    MIB,
    Plan,
    Reason,
    RetentionCache,
    RetentionInput,
    Rule,
    marked,
    plan,
    rule_of,
    shared_verdict,
    with_deleted,
)

NOW_MS = 1_000_000
DAY_MS = 24 * 3600 * 1000
UNTIL_ACK = Rule(Retention.UNTIL_ACK, 0)
MINUTE = Rule(Retention.UNTIL_EXPIRE, 60_000)
NO_TOPICS = dict[int, Rule]().get


def segment(
    topic_id: int = 1,
    first: int = 1,
    last: int = 1,
    *,
    age_ms: int = 0,
    size_bytes: int = 100,
    messages: int = 1,
    delete_after_ms: int = 0,
    quarantined: Mapping[str, str] = {},
) -> SegmentRecord:
    """Of the log sequences ``first..last``, one message each."""
    return SegmentRecord(
        key=f"f0/{topic_id}/{first}",
        backend=StorageBackend.DISK,
        topic_id=topic_id,
        first_position=position_of(first, 0, 0),
        last_position=position_of(last, 0, 0),
        messages=messages,
        first_offset=0,
        published_ms_min=NOW_MS - age_ms,
        published_ms_max=NOW_MS - age_ms,
        size_bytes=size_bytes,
        data_crc32c=0,
        holders=("7",),
        delete_after_ms=delete_after_ms,
        quarantined=quarantined,
    )


def entry(first: int, last: int, *segments: SegmentRecord) -> ManifestEntry:
    return ManifestEntry("f0", first, last, NOW_MS, "7", segments)


def planned(
    entries: Sequence[ManifestEntry],
    inputs: RetentionInput,
    *,
    archive: BundleArchive | None = None,
    cache: RetentionCache | None = None,
    forget_after_ms: int = DAY_MS,
) -> Plan:
    return plan(
        entries,
        archive or BundleArchive(),
        inputs,
        cache or RetentionCache(),
        forget_after_ms=forget_after_ms,
    )


def reasons(found: Plan) -> dict[str, Reason]:
    return {mark.segment.key: mark.reason for mark in found.marks}


# What lets a segment go


@pytest.mark.parametrize(
    ("rule", "floor", "age_ms", "reason"),
    [
        (UNTIL_ACK, position_of(5, 0, 0), 0, Reason.ACKNOWLEDGED),
        (UNTIL_ACK, position_of(5, 0, 0) - 1, DAY_MS, None),
        (UNTIL_ACK, None, DAY_MS, None),
        (MINUTE, None, 60_000, Reason.EXPIRED),
        (MINUTE, position_of(9, 0, 0), 59_999, None),
    ],
)
def test_a_segment_goes_by_the_rule_of_its_topic(
    rule: Rule, floor: int | None, age_ms: int, reason: Reason | None
) -> None:
    floors = {} if floor is None else {1: floor}
    found = planned(
        [entry(1, 5, segment(1, 1, 5, age_ms=age_ms))], RetentionInput(NOW_MS, {1: rule}.get, floors=floors)
    )
    assert reasons(found) == ({"f0/1/1": reason} if reason else {})


def test_without_an_owner_nothing_counts_as_acknowledged() -> None:
    entries = [entry(1, 5, segment(1, 1, 5), segment(2, 1, 5, age_ms=60_000))]
    found = planned(entries, RetentionInput(NOW_MS, {1: UNTIL_ACK, 2: MINUTE}.get, floors=None))
    assert reasons(found) == {"f0/2/1": Reason.EXPIRED}


def test_a_topic_that_is_not_known_to_be_gone_keeps_its_segments() -> None:
    entries = [entry(1, 5, segment(1, 1, 5), segment(2, 1, 5))]
    assert reasons(planned(entries, RetentionInput(NOW_MS, NO_TOPICS, deleted_topics={2}))) == {
        "f0/2/1": Reason.TOPIC_DELETED
    }


def test_what_is_in_quarantine_or_marked_already_is_left_alone() -> None:
    entries = [
        entry(1, 1, segment(1, 1, 1, quarantined={"7": "bad"})),
        entry(2, 2, segment(1, 2, 2, delete_after_ms=NOW_MS + 1)),
        entry(3, 3, segment(1, 3, 3, delete_after_ms=NOW_MS - 1, quarantined={"7": "bad"})),
    ]
    found = planned(entries, RetentionInput(NOW_MS, NO_TOPICS, deleted_topics={1}))
    assert (found.marks, found.deletions) == ((), ())


def test_of_a_topic_over_its_size_the_oldest_go_and_the_newest_stays() -> None:
    rule = Rule(Retention.UNTIL_ACK, 0, bytes_max=250)
    entries = [entry(n, n, segment(1, n, n, size_bytes=100)) for n in range(1, 6)]
    assert reasons(planned(entries, RetentionInput(NOW_MS, {1: rule}.get))) == {
        "f0/1/1": Reason.SIZE,
        "f0/1/2": Reason.SIZE,
        "f0/1/3": Reason.SIZE,
    }
    tiny = Rule(Retention.UNTIL_ACK, 0, bytes_max=1)
    assert "f0/1/5" not in reasons(planned(entries, RetentionInput(NOW_MS, {1: tiny}.get)))


def test_what_goes_anyway_leaves_room_for_the_rest() -> None:
    rule = Rule(Retention.UNTIL_ACK, 0, bytes_max=200)
    entries = [entry(n, n, segment(1, n, n, size_bytes=100)) for n in range(1, 4)]
    floors = {1: position_of(1, 0, 0)}
    assert reasons(planned(entries, RetentionInput(NOW_MS, {1: rule}.get, floors=floors))) == {
        "f0/1/1": Reason.ACKNOWLEDGED
    }


def test_a_bound_in_mib_is_kept_in_bytes() -> None:
    options = ReliableOptions(retention=Retention.UNTIL_ACK, retention_period_s=2)
    assert rule_of(options, Policies(max_retained_mb=3)) == Rule(Retention.UNTIL_ACK, 2000, 3 * MIB)


# Shared segments


def ranges(*topics: tuple[int, int]) -> list[TopicRange]:
    """(topic id, its last log sequence)"""
    return [
        TopicRange(topic_id, position_of(1, 0, 0), position_of(last, 0, 0), last, 0)
        for topic_id, last in topics
    ]


@pytest.mark.parametrize(
    ("floors", "gone", "age_ms", "verdict"),
    [
        ({1: position_of(3, 0, 0)}, {3}, 60_000, Reason.EXPIRED),
        ({1: position_of(3, 0, 0)}, {3}, 0, 2),
        ({1: position_of(2, 0, 0)}, {3}, 60_000, 1),
        ({1: position_of(3, 0, 0)}, set[int](), 60_000, 3),
    ],
)
def test_a_shared_segment_goes_when_all_its_topics_let_it_go(
    floors: dict[int, int], gone: set[int], age_ms: int, verdict: Reason | int
) -> None:
    inputs = RetentionInput(NOW_MS, {1: UNTIL_ACK, 2: MINUTE}.get, gone, floors)
    found = shared_verdict(segment(SHARED, 1, 9, age_ms=age_ms), ranges((1, 3), (2, 5), (3, 9)), inputs)
    assert (found.topic_id if isinstance(found, TopicRange) else found) == verdict


def test_a_shared_segment_is_read_again_only_when_who_held_on_lets_go() -> None:
    entries = [entry(1, 9, segment(SHARED, 1, 9))]
    cache = RetentionCache()
    assert [
        each.segment.key
        for each in planned(entries, RetentionInput(NOW_MS, {1: UNTIL_ACK}.get), cache=cache).unread
    ] == ["f0/0/1"]
    (cache.holders["f0/0/1"],) = ranges((1, 3))
    held = RetentionInput(NOW_MS, {1: UNTIL_ACK}.get, floors={1: position_of(2, 0, 0)})
    assert planned(entries, held, cache=cache).unread == ()
    free = RetentionInput(NOW_MS, {1: UNTIL_ACK}.get, floors={1: position_of(3, 0, 0)})
    assert len(planned(entries, free, cache=cache).unread) == 1


def test_a_shared_segment_that_cannot_be_read_stands_back_for_a_while() -> None:
    entries = [entry(1, 1, segment(SHARED, 1, 1)), entry(2, 2, segment(SHARED, 2, 2))]
    cache = RetentionCache(unreadable={"f0/0/1": NOW_MS + 1})
    for now_ms, first in ((NOW_MS, 2), (NOW_MS + 1, 1)):
        cache.note(entries, now_ms)
        found = planned(entries, RetentionInput(now_ms, NO_TOPICS), cache=cache)
        assert found.unread[0].entry.first_sequence == first


def test_a_pass_reads_a_bounded_number_of_shared_segments_the_oldest_first() -> None:
    entries = [entry(n, n, segment(SHARED, n, n)) for n in range(1, 100)]
    found = plan(
        entries,
        BundleArchive(),
        RetentionInput(NOW_MS, NO_TOPICS),
        RetentionCache(),
        forget_after_ms=DAY_MS,
        shared_reads_max=3,
    )
    assert [each.entry.first_sequence for each in found.unread] == [1, 2, 3]


# Deleting and forgetting


def test_a_marked_segment_is_deleted_when_its_delay_has_passed() -> None:
    entries = [
        entry(1, 1, segment(1, 1, 1, delete_after_ms=NOW_MS)),
        entry(2, 2, segment(1, 2, 2, delete_after_ms=NOW_MS + 1)),
    ]
    assert [
        each.segment.key for each in planned(entries, RetentionInput(NOW_MS, {1: UNTIL_ACK}.get)).deletions
    ] == ["f0/1/1"]


def test_a_shared_segment_waits_until_the_offsets_in_it_are_written_elsewhere() -> None:
    entries = [entry(1, 4, segment(SHARED, 1, 4, delete_after_ms=1)), entry(5, 9)]
    waits = planned(entries, RetentionInput(NOW_MS, NO_TOPICS), archive=BundleArchive(offsets_through=3))
    assert (waits.deletions, waits.checkpoint_through) == ((), 4)
    goes = planned(entries, RetentionInput(NOW_MS, NO_TOPICS), archive=BundleArchive(offsets_through=4))
    assert (len(goes.deletions), goes.checkpoint_through) == (1, 0)


def test_only_what_is_still_retained_and_sound_is_marked() -> None:
    one = entry(1, 3, segment(1, 1, 1), segment(2, 1, 1, quarantined={"7": "bad"}), segment(3, 1, 1))
    after = marked(one, {"f0/1/1", "f0/2/1"}, 77)
    assert [s.delete_after_ms for s in after.segments] == [77, 0, 0]
    assert marked(after, {"f0/1/1"}, 99) == after


def test_a_deleted_segment_leaves_one_row_however_often_it_is_deleted() -> None:
    one = entry(1, 3, segment(1, 1, 3, messages=3, size_bytes=9), segment(2, 1, 1))
    after = with_deleted(with_deleted(one, {"f0/1/1"}), {"f0/1/1"})
    assert [s.key for s in after.segments] == ["f0/2/1"]
    assert deletions(BundleArchive(), [after]) == {1: Deletions(1, 3, 9)}


@pytest.mark.parametrize("age_ms", [DAY_MS - 1, DAY_MS])
def test_the_oldest_empty_entries_are_compacted_after_a_while_but_never_the_newest(age_ms: int) -> None:
    entries = [entry(1, 2), entry(3, 4), entry(5, 6, segment(1, 5, 5)), entry(7, 8), entry(9, 10)]
    cache = RetentionCache()
    cache.note(entries, NOW_MS - age_ms)
    archive = BundleArchive(offsets_through=10)
    found = planned(entries, RetentionInput(NOW_MS, {1: UNTIL_ACK}.get), archive=archive, cache=cache)
    assert [one.first_sequence for one in found.compacts] == ([1, 3] if age_ms == DAY_MS else [])
    alone = planned(entries[:1], RetentionInput(NOW_MS, NO_TOPICS), archive=archive, cache=cache)
    assert alone.compacts == ()


def test_an_entry_is_compacted_only_when_the_offsets_in_it_are_written_elsewhere() -> None:
    entries = [entry(1, 2), entry(3, 4), entry(5, 6)]
    cache = RetentionCache()
    cache.note(entries, 0)
    found = planned(
        entries,
        RetentionInput(NOW_MS, NO_TOPICS),
        archive=BundleArchive(offsets_through=2),
        cache=cache,
        forget_after_ms=0,
    )
    assert ([one.first_sequence for one in found.compacts], found.checkpoint_through) == ([1], 4)


def test_a_compacted_entry_that_is_still_stored_is_only_removed() -> None:
    entries = [entry(1, 2, segment(1, 1, 2)), entry(3, 4)]
    found = planned(
        entries,
        RetentionInput(NOW_MS, NO_TOPICS, deleted_topics={1}),
        archive=BundleArchive(forgotten_through=2),
    )
    assert ([one.first_sequence for one in found.leftovers], found.marks) == ([1], ())


def test_the_cache_drops_entries_and_segments_that_were_removed() -> None:
    cache = RetentionCache()
    (cache.holders["f0/0/1"],) = ranges((1, 1))
    cache.note([entry(1, 2), entry(3, 4)], 5)
    assert (cache.holders, cache.emptied_ms) == ({}, {1: 5, 3: 5})
    cache.note([entry(3, 4)], 9)
    assert cache.emptied_ms == {3: 5}


# All of it, against a model


@dataclass
class Model:
    """A bundle's archive in which each message is known, and what every subscription has acknowledged."""

    rules: dict[int, Rule]
    gone: set[int]
    subscriptions: dict[int, list[int]]
    contents: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    entries: list[ManifestEntry] = field(default_factory=list)
    archive: BundleArchive = field(default_factory=BundleArchive)
    cache: RetentionCache = field(default_factory=RetentionCache)
    deleted: dict[str, SegmentRecord] = field(default_factory=dict)

    def add_entry(self, own: dict[int, int], shared: dict[int, int], age_ms: int) -> None:
        """``own`` and ``shared``: how many messages each topic has."""
        first = self.entries[-1].last_sequence + 1 if self.entries else 1
        sequence = first
        segments = []
        places: dict[int, list[int]] = {}
        for topic_id, count in sorted({**shared, **own}.items()):
            places[topic_id] = [position_of(sequence + n, 0, 0) for n in range(count)]
            sequence += count
        for topics in (*({one: places[one]} for one in own), {one: places[one] for one in shared}):
            if not topics:
                continue
            positions = sorted(position for each in topics.values() for position in each)
            topic_id = SHARED if topics.keys() <= shared.keys() else next(iter(topics))
            record = msgspec.structs.replace(
                segment(topic_id, first, age_ms=age_ms, messages=len(positions)),
                first_position=positions[0],
                last_position=positions[-1],
            )
            segments.append(record)
            self.contents[record.key] = topics
        last = max(sequence - 1, first)
        self.entries.append(ManifestEntry("f0", first, last, NOW_MS, "7", tuple(segments)))

    def inputs(self, now_ms: int, owner_answers: bool) -> RetentionInput:
        floors = {one: min(marks) for one, marks in self.subscriptions.items() if marks}
        return RetentionInput(now_ms, self.rules.get, self.gone, floors if owner_answers else None)

    def run_pass(self, inputs: RetentionInput, crash_after: int) -> None:
        """One pass of the loop, which may end between any two of its steps."""
        self.cache.note(self.entries, inputs.now_ms)
        found = plan(self.entries, self.archive, inputs, self.cache, forget_after_ms=0)
        marks = {mark.segment.key for mark in found.marks}
        for record in [each.segment for each in found.unread]:
            verdict = shared_verdict(record, self.ranges(record.key), inputs)
            if isinstance(verdict, TopicRange):
                self.cache.holders[record.key] = verdict
            else:
                marks.add(record.key)
        steps: list[Callable[[], None]] = [
            lambda: self.change(lambda one: marked(one, marks, inputs.now_ms)),
            lambda: self.deleted.update({each.segment.key: each.segment for each in found.deletions}),
            lambda: self.change(
                lambda one: with_deleted(one, {each.segment.key for each in found.deletions})
            ),
            lambda: self.checkpoint(found.checkpoint_through),
            lambda: self.fold(found.compacts),
            lambda: self.forget(found.leftovers),
        ]
        for step in steps[:crash_after]:
            step()

    def change(self, change: Callable[[ManifestEntry], ManifestEntry]) -> None:
        self.entries = [change(one) for one in self.entries]

    def checkpoint(self, through: int) -> None:
        through = max(through, self.archive.offsets_through)
        self.archive = msgspec.structs.replace(self.archive, offsets_through=through)

    def fold(self, entries: Sequence[ManifestEntry]) -> None:
        self.archive = compacted(self.archive, entries, self.rules)

    def forget(self, entries: Sequence[ManifestEntry]) -> None:
        gone = {one.first_sequence for one in entries}
        self.entries = [one for one in self.entries if one.first_sequence not in gone]

    def ranges(self, key: str) -> list[TopicRange]:
        return [
            TopicRange(topic_id, positions[0], positions[-1], len(positions), 0)
            for topic_id, positions in self.contents[key].items()
        ]


TOPICS = {1: UNTIL_ACK, 2: UNTIL_ACK, 3: MINUTE, 4: Rule(Retention.UNTIL_EXPIRE, 5 * 60_000)}
COUNTS = st.dictionaries(st.sampled_from([*TOPICS, 5]), st.integers(1, 3), max_size=4)


@settings(max_examples=300)
@given(data=st.data())
def test_nothing_that_is_still_wanted_is_marked_or_deleted_and_each_deletion_counts_once(
    data: st.DataObject,
) -> None:
    model = Model(rules=dict(TOPICS), gone={5}, subscriptions={1: [], 2: []})
    for _ in range(data.draw(st.integers(1, 5), label="entries")):
        everything = data.draw(COUNTS)
        own = {one: n for one, n in everything.items() if data.draw(st.booleans())}
        model.add_entry(own, {one: n for one, n in everything.items() if one not in own}, 0)
    last = model.entries[-1].last_sequence
    for topic_id in (1, 2):
        marks = st.integers(0, end_of_sequence(last))
        model.subscriptions[topic_id] = data.draw(st.lists(marks, max_size=2))
    now_ms = NOW_MS
    for _ in range(data.draw(st.integers(1, 8), label="passes")):
        inputs = model.inputs(now_ms, data.draw(st.booleans(), label="the owner answers"))
        model.run_pass(inputs, data.draw(st.integers(0, 6), label="steps done"))
        _check_nothing_wanted_went(model, now_ms)
        _check_counts(model)
        now_ms += data.draw(st.sampled_from([0, 30_000, 60_000, 240_000]))
        topic_id = data.draw(st.sampled_from([1, 2]))
        model.subscriptions[topic_id] = [
            mark + data.draw(st.integers(0, 1 << 27)) for mark in model.subscriptions[topic_id]
        ]


def _check_nothing_wanted_went(model: Model, now_ms: int) -> None:
    going = {s.key for one in model.entries for s in one.segments if not s.retained} | model.deleted.keys()
    for key in going:
        for topic_id, positions in model.contents[key].items():
            rule = model.rules.get(topic_id)
            if rule is None:
                assert topic_id in model.gone
            elif rule.retention is Retention.UNTIL_EXPIRE:
                assert now_ms - NOW_MS >= rule.period_ms
            else:
                acknowledged = model.subscriptions[topic_id]
                assert acknowledged, "a topic without subscriptions keeps its messages"
                assert all(position <= min(acknowledged) for position in positions)


def _check_counts(model: Model) -> None:
    left = {s.key for one in model.entries for s in one.segments}
    expected: dict[int, Deletions] = {}
    for key, record in model.deleted.items():
        if key not in left and (record.topic_id in model.rules or record.topic_id == SHARED):
            expected[record.topic_id] = expected.get(record.topic_id, Deletions()).plus(
                with_deleted(entry(1, 1, record), {key}).deleted[0]
            )
    counted = deletions(model.archive, model.entries)
    assert {one: counts for one, counts in counted.items() if one not in model.gone} == expected
