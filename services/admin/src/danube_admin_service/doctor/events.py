"""Turns changes of the metadata store into events that people understand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from danube_admin_service.cluster.view import LeaderRecord
from danube_admin_service.doctor.rules import Finding, Severity
from danube_common.cluster import keys
from danube_common.cluster.records import Assignment, Claim, Drain, Instance, decode_record
from danube_common.errors import CorruptData

R = TypeVar("R", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to what, in a word and in a sentence."""

    kind: str
    subject: str
    text: str


def event_of(key: str, before: bytes | None, after: bytes | None) -> Event | None:
    """Return what the change of a key under ``/cluster/`` means; None if it means nothing to people."""
    if before == after:
        return None  # a lease was renewed
    if key.startswith(keys.REGISTER):
        return _instance(_read(Instance, before), _read(Instance, after))
    if key.startswith(keys.OWNERS):
        bundle = key.removeprefix(keys.OWNERS)
        return _owner(bundle, _read(Claim, before), _read(Claim, after))
    if key.startswith(keys.ASSIGNMENTS) and (assigned := _read(Assignment, after)) is not None:
        bundle = key.removeprefix(keys.ASSIGNMENTS)
        text = f"bundle {bundle} is to be served by topic-owner {assigned.instance_id}"
        return Event("assigned", bundle, text)
    if key.startswith(keys.LEADER):
        return _leader(_read(LeaderRecord, before), _read(LeaderRecord, after))
    if key.startswith(keys.DRAINS):
        return _drain(_read(Drain, before), _read(Drain, after))
    return None


def fault_events(before: Sequence[Finding], now: Sequence[Finding]) -> list[Event]:
    """Return the faults that came and those that ended between two looks at the cluster."""
    known, present = (
        {(one.check, one.subject): one for one in found if one.severity > Severity.UNSEEN}
        for found in (before, now)
    )
    came = [
        Event("fault", one.subject, f"{one.problem}. {one.advice}")
        for of, one in present.items()
        if of not in known
    ]
    ended = [
        Event("fault-ended", one.subject, f"no longer: {one.problem}")
        for of, one in known.items()
        if of not in present
    ]
    return came + ended


def _read(kind: type[R], value: bytes | None) -> R | None:
    try:
        return None if value is None else decode_record(kind, value)
    except CorruptData:
        return None  # of a later version


def _instance(before: Instance | None, after: Instance | None) -> Event | None:
    if after is not None and (before is None or before.started_ms != after.started_ms):
        verb = "came" if before is None else "came again"
        return Event("instance-came", after.instance_id, f"{after.kind} {after.instance_id} {verb}")
    if before is not None and after is None:
        name = f"{before.kind} {before.instance_id}"
        return Event("instance-left", before.instance_id, f"{name} was stopped, or is silent for too long")
    return None


def _owner(bundle: str, before: Claim | None, after: Claim | None) -> Event | None:
    if after is not None:
        taken = f", taken over from {before.instance_id}" if before is not None else ""
        return Event(
            "owner-changed", bundle, f"bundle {bundle} is served by topic-owner {after.instance_id}{taken}"
        )
    if before is not None:
        return Event(
            "owner-lost", bundle, f"bundle {bundle} was given back by topic-owner {before.instance_id}"
        )
    return None


def _leader(before: LeaderRecord | None, after: LeaderRecord | None) -> Event | None:
    if after is not None:
        return Event("leader-changed", after.instance_id, f"admin {after.instance_id} leads")
    if before is not None:
        return Event("leader-lost", before.instance_id, f"admin {before.instance_id} leads no more")
    return None


def _drain(before: Drain | None, after: Drain | None) -> Event | None:
    if after is not None and before is None:
        text = f"topic-owner {after.instance_id} is being drained of {after.bundles} bundles"
        return Event("drain-began", after.instance_id, text)
    if before is not None and after is None:
        return Event(
            "drain-ended", before.instance_id, f"topic-owner {before.instance_id} takes bundles again"
        )
    return None
