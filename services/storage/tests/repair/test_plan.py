"""Which copies are made and given up, whatever becomes of instances and disks."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from danube_common.archive.records import ManifestEntry, SegmentRecord
from danube_common.model.strategy import StorageBackend
from danube_storage.archive.sweep import orphans
from danube_storage.repair.plan import (
    TARGETS_AT_ONCE_MAX,
    Absences,
    Copy,
    Instances,
    RepairPlan,
    copies,
    plan_repairs,
    retargeted,
    with_copy,
)
from danube_storage.repair.scrub_order import due, turn_ms

ABSENT_S = 10.0
NAMES = ["1", "2", "3", "4", "5"]
SEGMENTS = 4


def record(number: int, *holders: str) -> SegmentRecord:
    key = f"f0/shared/{1:016x}-{number:04d}.00"
    return SegmentRecord(key, StorageBackend.DISK, 0, number, number, 1, 0, 0, 0, 9, 7, holders)


def entry_of(*records: SegmentRecord) -> ManifestEntry:
    return ManifestEntry("f0", 1, 9, 0, "1", records)


@dataclass
class Disk:
    """By key, whether the copy is intact."""

    live: bool = True
    copies: dict[str, bool] = field(default_factory=dict)


class RepairModel(RuleBasedStateMachine):
    """Instances come, go and lose their disks; bytes rot; the deciding instance may be replaced at any step.

    Attributes:
        entry: the manifest.
        stale: an older view of it, which a decision may begin with.
        made: the (key, target) of copies that are made and not recorded yet.
    """

    @initialize(replicas=st.integers(1, 3), count=st.integers(1, 4))
    def start(self, replicas: int, count: int) -> None:
        self.replicas = replicas
        self.disks = {name: Disk() for name in NAMES[: max(count, replicas)]}
        holders = list(self.disks)[:replicas]
        self.entry = entry_of(*(record(number, *holders) for number in range(SEGMENTS)))
        self.stale = self.entry
        for name in holders:
            self.disks[name].copies = {one.key: True for one in self.entry.segments}
        self.absences = Absences(ABSENT_S)
        self.now = 0.0
        self.avoided: set[str] = set()
        self.made: set[tuple[str, str]] = set()

    # What happens

    @rule(name=st.sampled_from(NAMES), loses_its_disk=st.booleans())
    def an_instance_goes(self, name: str, *, loses_its_disk: bool) -> None:
        disk = self.disks.get(name)
        if disk is None:
            return
        disk.live = False
        if loses_its_disk and self.others_are_intact(name):
            disk.copies.clear()
            self.made = {each for each in self.made if each[1] != name}

    @rule(name=st.sampled_from(NAMES))
    def an_instance_comes(self, name: str) -> None:
        """At its start it finds what is missing on its disk, and later it sweeps what nobody names."""
        disk = self.disks.setdefault(name, Disk())
        disk.live = True
        self.find_damage(name)

    @rule(name=st.sampled_from(NAMES))
    def an_instance_sweeps(self, name: str) -> None:
        disk = self.disks.get(name)
        if disk is not None and disk.live:
            for key in orphans(list(disk.copies), [self.entry], StorageBackend.DISK, name):
                del disk.copies[key]

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, SEGMENTS - 1))
    def a_byte_rots(self, name: str, number: int) -> None:
        key = self.entry.segments[number].key
        disk = self.disks.get(name)
        if disk is not None and key in disk.copies and self.others_are_intact(name, key):
            disk.copies[key] = False

    @rule(name=st.sampled_from(NAMES))
    def an_instance_scrubs(self, name: str) -> None:
        if name in self.disks and self.disks[name].live:
            self.find_damage(name)

    @rule(seconds=st.sampled_from([1.0, ABSENT_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def another_instance_decides(self) -> None:
        self.absences = Absences(ABSENT_S)

    @rule(avoided=st.sets(st.sampled_from(NAMES)))
    def copies_failed(self, avoided: set[str]) -> None:
        self.avoided = avoided

    @rule()
    def a_view_falls_behind(self) -> None:
        self.stale = self.entry

    @rule(made=st.integers(0, 8), behind=st.booleans(), records=st.booleans())
    def a_pass_is_made(self, made: int, *, behind: bool, records: bool) -> None:
        """The view may be old, and the pass may end after any copy, before or after it is recorded."""
        self.run_pass(made, self.stale if behind else self.entry, records=records)

    @rule()
    def what_was_made_is_recorded_late(self) -> None:
        for key, target in self.made:
            (segment,) = (one for one in self.entry.segments if one.key == key)
            if target in segment.copying:
                assert key in self.disks[target].copies, "a copy was swept before it was recorded"
            self.entry = with_copy(self.entry, key, target)
        self.made.clear()

    @precondition(lambda self: any(disk.live for disk in self.disks.values()))
    @rule()
    def what_can_be_repaired_is(self) -> None:
        self.avoided = set()
        for _ in range(2):
            for name, disk in self.disks.items():
                if disk.live:
                    self.find_damage(name)
            self.settle()
        live = [name for name, disk in self.disks.items() if disk.live]
        for segment in self.entry.segments:
            intact = self.intact(segment)
            if intact:
                assert len(intact) >= min(self.replicas, len(live)), "a copy is not made"
                assert set(segment.holders) & set(live) == intact, "a damaged copy is not mended"
                assert not segment.copying
            else:
                assert segment.key in {lost.key for lost in self.plan().lost}, "a lost segment is not told"

    # What holds

    @invariant()
    def an_intact_copy_is_named_and_stays(self) -> None:
        """Faults leave one intact copy of each segment; nothing that repair or the sweep does ends it."""
        if hasattr(self, "entry"):
            for segment in self.entry.segments:
                holds = [one for one in segment.holders if self.disks[one].copies.get(segment.key)]
                assert holds, "no holder has an intact copy"

    def settle(self) -> None:
        for _ in range(20):
            self.run_pass(100, self.entry)
            self.now += ABSENT_S

    def run_pass(self, made: int, seen: ManifestEntry, *, records: bool = True) -> None:
        instances = self.instances()
        for entry in plan_repairs([seen], instances, self.replicas).changes:
            assert entry is seen
            self.entry = retargeted(self.entry, instances, self.replicas)
        for copy in copies([self.entry], instances)[:made]:
            self.make(copy, records=records)

    def make(self, copy: Copy, *, records: bool) -> None:
        """A damaged source notices it, and so does its target."""
        key = copy.segment.key
        assert copy.target not in copy.sources
        for source in copy.sources:
            if self.disks[source].copies.get(key):
                self.disks[copy.target].copies[key] = True
                self.mark(copy.target, key, "")
                if records:
                    self.entry = with_copy(self.entry, key, copy.target)
                else:
                    self.made.add((key, copy.target))
                return
            self.mark(source, key, "damaged")

    def instances(self) -> Instances:
        live = {name for name, disk in self.disks.items() if disk.live}
        known = {holder for segment in self.entry.segments for holder in segment.holders}
        return Instances(live, self.absences.note(known, live, self.now), self.avoided)

    def plan(self) -> RepairPlan:
        return plan_repairs([self.entry], self.instances(), self.replicas)

    def find_damage(self, name: str) -> None:
        for segment in self.entry.segments:
            if name in segment.holders and not self.disks[name].copies.get(segment.key):
                self.mark(name, segment.key, "damaged")

    def mark(self, name: str, key: str, reason: str) -> None:
        def marked(segment: SegmentRecord) -> SegmentRecord:
            if segment.key != key:
                return segment
            others = {one: why for one, why in segment.quarantined.items() if one != name}
            return msgspec.structs.replace(
                segment, quarantined={**others, name: reason} if reason else others
            )

        self.entry = msgspec.structs.replace(
            self.entry, segments=tuple(marked(segment) for segment in self.entry.segments)
        )

    def intact(self, segment: SegmentRecord) -> set[str]:
        return {
            one for one in segment.holders if self.disks[one].live and self.disks[one].copies.get(segment.key)
        }

    def others_are_intact(self, name: str, key: str = "") -> bool:
        """Whether each segment (or that of the key) has an intact copy on another disk."""
        return all(
            any(self.disks[one].copies.get(segment.key) for one in segment.holders if one != name)
            for segment in self.entry.segments
            if key in ("", segment.key)
        )


TestRepairModel = RepairModel.TestCase
TestRepairModel.settings = settings(max_examples=200, stateful_step_count=30)


def test_an_instance_that_is_away_for_a_short_time_is_waited_for() -> None:
    entry = entry_of(record(1, "1", "2"))
    plan = plan_repairs([entry], Instances({"1", "3"}), 2)
    assert (plan.changes, plan.short, plan.lost) == ((), 0, ())


def test_a_segment_on_one_instance_that_is_gone_is_told_and_stays_in_the_manifest() -> None:
    entry = entry_of(record(1, "1"))
    plan = plan_repairs([entry], Instances({"2"}, absent={"1"}), 1)
    assert (plan.changes, plan.short, [lost.key for lost in plan.lost]) == ((), 1, [entry.segments[0].key])


def test_a_replaced_instance_is_dropped_only_when_there_are_enough_intact_copies() -> None:
    instances = Instances({"1", "3"}, absent={"2"})
    entry = retargeted(entry_of(record(1, "1", "2")), instances, 2)
    assert (entry.segments[0].holders, entry.segments[0].copying) == (("1", "2"), ("3",))
    entry = with_copy(entry, entry.segments[0].key, "3")
    assert entry.segments[0].holders == ("1", "2", "3")
    assert retargeted(entry, instances, 2).segments[0].holders == ("1", "3")


def test_a_target_that_failed_is_replaced_where_there_is_another() -> None:
    entry = entry_of(record(1, "1", "2"))
    live, absent = {"1", "3", "4"}, {"2"}
    (first,) = retargeted(entry, Instances(live, absent), 2).segments
    (target,) = first.copying
    (second,) = retargeted(entry_of(first), Instances(live, absent, {target}), 2).segments
    assert second.copying == tuple({"3", "4"} - {target})


def test_a_target_that_is_gone_is_replaced_however_many_copies_are_under_way() -> None:
    records = [
        msgspec.structs.replace(record(number, "1", "2"), copying=("3",))
        for number in range(TARGETS_AT_ONCE_MAX + 1)
    ]
    instances = Instances({"1", "4"}, absent={"2", "3"})
    first, second = entry_of(*records), entry_of(record(9999, "1", "2"))
    plan = plan_repairs([first, second], instances, 2)
    assert plan.changes == (first,)
    assert all(one.copying == ("4",) for one in retargeted(first, instances, 2).segments)
    assert plan_repairs([second], instances, 2).changes == (second,)


def test_a_segment_that_is_being_deleted_is_not_copied() -> None:
    marked = msgspec.structs.replace(record(1, "1", "2"), delete_after_ms=1)
    plan = plan_repairs([entry_of(marked)], Instances({"1", "3"}, absent={"2"}), 2)
    assert (plan.changes, plan.short, plan.lost) == ((), 0, ())


def test_a_copy_under_way_is_not_swept_and_that_of_a_replaced_instance_is() -> None:
    segment = msgspec.structs.replace(record(1, "1"), copying=("3",))
    swept = {
        name: orphans([segment.key], [entry_of(segment)], StorageBackend.DISK, name)
        for name in ("1", "2", "3")
    }
    assert swept == {"1": [], "2": [segment.key], "3": []}


PERIOD_MS = 100


@given(
    keys=st.sets(st.text("abc", min_size=1, max_size=4), max_size=20),
    steps=st.lists(st.integers(0, 40), max_size=40),
    count_max=st.integers(1, 5),
)
def test_every_segment_has_its_turn_once_in_a_period_however_the_scrub_is_interrupted(
    keys: set[str], steps: list[int], count_max: int
) -> None:
    segments = [(key, key) for key in sorted(keys)]
    through = start = now = 10**6
    taken: list[tuple[int, str]] = []
    for step in steps:
        now += step
        through = max(through, now - PERIOD_MS)
        turns = due(segments, through, now, PERIOD_MS, count_max)
        taken += turns
        # A restart: `through` is all that is known, of the last turn, or of now if none is left.
        through = turns[-1][0] if len(turns) >= count_max else now
    while turns := due(segments, through, now, PERIOD_MS, count_max):
        taken += turns
        through = turns[-1][0]
    assert len(taken) == len(set(taken))
    if now - start <= PERIOD_MS:
        for key in keys:
            expected = turn_ms(key, start, PERIOD_MS)
            assert [at for at, one in taken if one == key] == ([expected] if expected <= now else [])
