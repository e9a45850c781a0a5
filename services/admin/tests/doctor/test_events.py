from __future__ import annotations

import pytest

from danube_admin_service.cluster.view import LeaderRecord
from danube_admin_service.doctor.events import event_of
from danube_common.cluster import keys
from danube_common.cluster.records import Assignment, Claim, Drain, Instance, encode_record
from danube_common.model.bundle import Bundle

F0 = Bundle.parse("f0")
GATEWAY = encode_record(Instance("7", "gateway", "http://h:1", started_ms=1))
AGAIN = encode_record(Instance("7", "gateway", "http://h:1", started_ms=2))
FIRST, SECOND = encode_record(Claim("1", "a")), encode_record(Claim("2", "b"))
LEADER = encode_record(LeaderRecord("3", "x"))
DRAIN = encode_record(Drain("1", 4, 2, 0))


@pytest.mark.parametrize(
    ("key", "before", "after", "kind", "text"),
    [
        (keys.instance_key("7"), None, GATEWAY, "instance-came", "gateway 7 came"),
        (keys.instance_key("7"), GATEWAY, AGAIN, "instance-came", "gateway 7 came again"),
        (keys.instance_key("7"), GATEWAY, None, "instance-left", "gateway 7 was stopped"),
        (keys.owner_key(F0), None, FIRST, "owner-changed", "bundle f0 is served by topic-owner 1"),
        (keys.owner_key(F0), FIRST, SECOND, "owner-changed", "topic-owner 2, taken over from 1"),
        (keys.owner_key(F0), SECOND, None, "owner-lost", "bundle f0 was given back by topic-owner 2"),
        (
            keys.assignment_key(F0),
            None,
            encode_record(Assignment("1")),
            "assigned",
            "bundle f0 is to be served by topic-owner 1",
        ),
        (keys.LEADER, None, LEADER, "leader-changed", "admin 3 leads"),
        (keys.LEADER, LEADER, None, "leader-lost", "admin 3 leads no more"),
        (keys.drain_key("1"), None, DRAIN, "drain-began", "topic-owner 1 is being drained of 4 bundles"),
        (keys.drain_key("1"), DRAIN, None, "drain-ended", "topic-owner 1 takes bundles again"),
    ],
)
def test_a_change_is_told_in_a_sentence(
    key: str, before: bytes | None, after: bytes | None, kind: str, text: str
) -> None:
    event = event_of(key, before, after)
    assert event is not None
    assert event.kind == kind
    assert text in event.text


def test_renewals_loads_and_records_of_later_versions_are_no_events() -> None:
    assert event_of(keys.instance_key("7"), GATEWAY, GATEWAY) is None
    assert event_of(keys.load_key("1"), None, b"{}") is None
    assert event_of(keys.instance_key("7"), None, b"[]") is None
    assert event_of("/cluster/new/thing", None, b"x") is None
