from __future__ import annotations

import faust
import pytest
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP

from danube_faust import assignment
from danube_faust.members import Member

COUNTS = {"orders": 8, "payments": 8, "app-totals-changelog": 8, "single": 1}


def app_of(replicas: int = 0) -> faust.App:
    app = faust.App("app", broker="danube://", table_standby_replicas=replicas)
    app.Table("totals", partitions=8)
    app.finalize()
    return app


def members(app: faust.App, *names: str) -> dict[str, Member]:
    return {name: Member(name, str(app.conf.canonical_url), tuple(COUNTS)) for name in sorted(names)}


def assigned(app: faust.App, *names: str) -> dict[str, ClientMetadata]:
    return assignment.assign(
        PartitionAssignor(app, app.conf.table_standby_replicas), members(app, *names), COUNTS
    )


@pytest.mark.parametrize("names", ["a", "ab", "abc", "abcdefgh", "abcdefghi"])
def test_each_partition_has_one_worker_and_none_has_one_more_than_another(names: str) -> None:
    found = assigned(app_of(), *names)

    actives = [tp for one in found.values() for tp in one.assignment.active_tps]
    assert sorted(actives) == sorted(TP(topic, n) for topic, count in COUNTS.items() for n in range(count))
    loads = [len(one.assignment.actives.get("orders", ())) for one in found.values()]
    assert max(loads) - min(loads) <= 1


def test_partitions_of_one_number_are_with_one_worker_so_that_joins_and_tables_find_their_keys() -> None:
    for one in assigned(app_of(), "a", "b", "c").values():
        actives = one.assignment.actives
        assert actives["orders"] == actives["payments"] == actives["app-totals-changelog"]


def test_all_workers_come_to_the_same_answer() -> None:
    found = [
        {name: one.assignment for name, one in assigned(app_of(1), "b", "c", "a").items()} for _ in range(2)
    ]

    assert found[0] == found[1]


def test_a_table_s_standby_is_never_with_the_worker_that_has_the_partition() -> None:
    found = assigned(app_of(1), "a", "b", "c")

    standbys = [tp for one in found.values() for tp in one.assignment.standby_tps]
    assert sorted(tp.partition for tp in standbys if tp.topic == "app-totals-changelog") == list(range(8))
    for one in found.values():
        assert not one.assignment.active_tps & one.assignment.standby_tps


def test_a_worker_follows_the_changelogs_of_its_standbys_and_never_their_messages() -> None:
    app = app_of(1)
    assignor = PartitionAssignor(app, 1)
    metadata = assignment.assign(assignor, members(app, "a", "b"), COUNTS)["a"]

    consumed = assignment.take(assignor, metadata, metadata.assignment.active_tps)

    followed = consumed - metadata.assignment.active_tps
    assert {tp.topic for tp in followed} == {"app-totals-changelog"}
    assert len(followed) == 4


def test_faust_is_told_what_the_worker_has_and_no_more() -> None:
    app = app_of()
    assignor = PartitionAssignor(app, 0)
    metadata = assignment.assign(assignor, members(app, "a", "b"), COUNTS)["a"]
    have = {
        tp
        for tp in metadata.assignment.active_tps
        if tp.partition != metadata.assignment.actives["orders"][0]
    }

    assert assignment.take(assignor, metadata, have) == have
    assert assignor.assigned_actives() == have
