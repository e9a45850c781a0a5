"""Decides which copies of disk segments are made, and which are given up. Pure.

A copy is *intact* if its holder is live and has not found it damaged, *awaited* if its holder has been away
for a short time only. A segment without any such copy is *lost*: it is told, and its record stays as it is,
so that it is served again when a holder returns or an operator puts the file back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from danube_common.archive.ranking import ranked
from danube_common.archive.records import ManifestEntry, SegmentRecord
from danube_common.model.strategy import StorageBackend

TARGETS_AT_ONCE_MAX = 256
"""Copies of one bundle that are under way at once; those of one manifest entry are planned together."""


@dataclass(frozen=True, slots=True)
class Instances:
    """The storage instances by their state.

    Attributes:
        live: registered now.
        absent: away for longer than the bound: their copies count for nothing.
        avoided: failed to make a copy a short time ago: others are preferred.
    """

    live: Collection[str]
    absent: Collection[str] = ()
    avoided: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy to be made on ``target`` from one of ``sources``."""

    entry: ManifestEntry
    segment: SegmentRecord
    target: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What a pass over a bundle's manifest has to do.

    Attributes:
        changes: entries that `retargeted` changes.
        short: how many segments have fewer intact and awaited copies than wanted, the lost ones included.
        lost: the segments that have no intact or awaited copy.
    """

    changes: tuple[ManifestEntry, ...] = ()
    short: int = 0
    lost: tuple[SegmentRecord, ...] = ()


@dataclass(slots=True)
class Absences:
    """How long instances have been away, as far as one observer has seen.

    Attributes:
        absent_s: an instance that is away for longer is absent.
        since: by instance id, when it was first seen to be away; monotonic.
    """

    absent_s: float
    since: Mapping[str, float] = field(default_factory=dict)

    def note(self, known: Iterable[str], live: Collection[str], now: float) -> set[str]:
        """Take the instances that hold copies and those that live; return the absent ones."""
        self.since = {one: self.since.get(one, now) for one in known if one not in live}
        return {one for one, since in self.since.items() if now - since >= self.absent_s}


def plan_repairs(entries: Iterable[ManifestEntry], instances: Instances, replicas: int) -> RepairPlan:
    """Return what to do so that each retained disk segment has ``replicas`` intact copies."""
    changes: list[ManifestEntry] = []
    lost: list[SegmentRecord] = []
    short = under_way = 0
    for entry in entries:
        unsettled = [record for record in entry.segments if not _settled(record, instances, replicas)]
        for record in unsettled:
            counted = len(_intact(record, instances)) + len(_awaited(record, instances))
            short += record.retained and counted < replicas
            if record.retained and not counted:
                lost.append(record)
        copying = sum(len(record.copying) for record in unsettled)
        # Copies that are under way are always looked at: their targets may be gone.
        if unsettled and (copying or under_way < TARGETS_AT_ONCE_MAX):
            changed = retargeted(entry, instances, replicas)
            if changed != entry:
                changes.append(entry)
                copying = sum(len(record.copying) for record in changed.segments)
        under_way += copying
    return RepairPlan(tuple(changes), short, tuple(lost))


def retargeted(entry: ManifestEntry, instances: Instances, replicas: int) -> ManifestEntry:
    """Return the entry with targets for the copies that are missing, and without copies that were replaced.

    An absent holder is dropped when there are ``replicas`` intact copies without it. It deletes its own copy
    when it returns.
    """
    return msgspec.structs.replace(
        entry,
        segments=tuple(
            record if _settled(record, instances, replicas) else _retargeted(record, instances, replicas)
            for record in entry.segments
        ),
    )


def with_copy(entry: ManifestEntry, key: str, target: str) -> ManifestEntry:
    """Return the entry with ``target``, which has made its copy of a segment, as a holder."""

    def held(record: SegmentRecord) -> SegmentRecord:
        if record.key != key or target not in record.copying:
            return record
        return msgspec.structs.replace(
            record,
            holders=(*record.holders, target),
            copying=tuple(one for one in record.copying if one != target),
        )

    return msgspec.structs.replace(entry, segments=tuple(held(record) for record in entry.segments))


def copies(entries: Iterable[ManifestEntry], instances: Instances) -> list[Copy]:
    """Return the copies to be made: on planned targets, and in the place of damaged copies."""
    found: list[Copy] = []
    for entry in entries:
        for record in entry.segments:
            if not record.retained or not (record.copying or record.quarantined):
                continue
            sources = tuple(_intact(record, instances))
            if sources:
                found += [Copy(entry, record, target, sources) for target in _targets(record, instances)]
    return found


def _targets(record: SegmentRecord, instances: Instances) -> list[str]:
    damaged = [one for one in record.holders if one in record.quarantined]
    return [one for one in (*damaged, *record.copying) if one in instances.live]


def _settled(record: SegmentRecord, instances: Instances, replicas: int) -> bool:
    """Return whether nothing is to be done; nearly all records are, so this is quick."""
    if record.backend is not StorageBackend.DISK:
        return True
    if record.copying or record.quarantined:
        return False
    if not record.retained:
        return True
    return len(record.holders) >= replicas and all(one in instances.live for one in record.holders)


def _retargeted(record: SegmentRecord, instances: Instances, replicas: int) -> SegmentRecord:
    if not record.retained:
        return msgspec.structs.replace(record, copying=())
    intact = _intact(record, instances)
    targets = [one for one in record.copying if one in instances.live and one not in record.holders]
    others = [one for one in instances.live if one not in record.holders and one not in targets]
    if any(one not in instances.avoided for one in others):
        targets = [one for one in targets if one not in instances.avoided]
    mended = [
        one
        for one in record.holders
        if one in record.quarantined and one in instances.live and one not in instances.avoided and intact
    ]
    wanted = replicas - len(intact) - len(_awaited(record, instances)) - len(mended)
    if intact:
        others = sorted(ranked(record.key, others), key=lambda one: one in instances.avoided)
        targets = [*targets, *others[: max(0, wanted - len(targets))]][: max(0, wanted)]
    kept: Sequence[str] = record.holders
    if len(intact) >= replicas:
        kept = [one for one in record.holders if one not in instances.absent]
    return msgspec.structs.replace(
        record,
        holders=tuple(kept),
        copying=tuple(targets),
        quarantined={one: why for one, why in record.quarantined.items() if one in kept},
    )


def _intact(record: SegmentRecord, instances: Instances) -> list[str]:
    return [one for one in record.holders if one in instances.live and one not in record.quarantined]


def _awaited(record: SegmentRecord, instances: Instances) -> list[str]:
    return [
        one
        for one in record.holders
        if one not in instances.live and one not in instances.absent and one not in record.quarantined
    ]
