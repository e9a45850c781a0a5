from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from random import Random

import faust
import pytest
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

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


class Workers:
    """Workers of an app who each hear all heartbeats, and tell what they have been assigned."""

    def __init__(self, app: faust.App) -> None:
        self.told: dict[str, Member] = {}
        self._app = app
        self._assignor = PartitionAssignor(app, app.conf.table_standby_replicas)

    def join(self, name: str) -> None:
        self.told |= members(self._app, name)

    def settle(self, order: Iterable[str]) -> None:
        """Let them work out in turn what they have, until that is what they have told."""
        order = list(order)
        for _ in range(TURNS_MAX):
            before = dict(self.told)
            for name in order:
                metadata = assignment.assign(self._assignor, dict(sorted(self.told.items())), COUNTS)[name]
                actives, standbys = assignment.told(self._assignor, metadata)
                self.told[name] = replace(self.told[name], actives=actives, standbys=standbys)
            if self.told == before:
                return
        raise AssertionError(f"they do not agree: {self.told}")

    def owners(self, topic: str = "orders") -> dict[int, str]:
        """Return who is active for each partition."""
        return {number: name for name, one in self.told.items() for number in one.actives.get(topic, ())}

    def standbys(self) -> dict[int, set[str]]:
        return {
            number: {name for name, one in self.told.items() if number in one.standbys["orders"]}
            for number in range(COUNTS["orders"])
        }


NAMES = st.text("abcdef", min_size=1, max_size=2)
TURNS_MAX = 8


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), NAMES), max_size=12), st.integers(0, 2), st.randoms())
def test_workers_that_come_and_go_agree_and_each_partition_has_one(
    events: list[tuple[bool, str]], replicas: int, random: Random
) -> None:
    workers = Workers(APPS[replicas])
    for joins, name in events:
        if joins == (name in workers.told) or (not joins and len(workers.told) == 1):
            continue
        before = workers.owners()
        if joins:
            workers.join(name)
        else:
            del workers.told[name]
        workers.settle(random.sample(sorted(workers.told), len(workers.told)))

        after = workers.owners()
        assert sorted(after) == list(range(COUNTS["orders"]))
        loads = [len(one.actives["orders"]) for one in workers.told.values()]
        assert max(loads) <= -(-COUNTS["orders"] // len(loads))
        if not replicas:
            continue  # Faust shares more evenly then, and may move some between those that stay
        if joins:
            moved = {after[number] for number, owner in before.items() if after[number] != owner}
            assert moved <= {name}, "they go to who is new"
        else:
            kept = {number: owner for number, owner in before.items() if owner in workers.told}
            assert kept.items() <= after.items(), "who stays keeps what it has"


@pytest.mark.parametrize("newcomer", ["a", "z"])
def test_a_newcomer_takes_no_partition_from_a_worker_that_has_one(newcomer: str) -> None:
    workers = Workers(app_of(1))
    workers.join("m")
    workers.settle("m")
    workers.join(newcomer)
    workers.settle([newcomer, "m"])

    assert workers.owners("single") == {0: "m"}
    assert workers.told[newcomer].standbys["single"] == [0]


def test_a_standby_takes_over() -> None:
    workers = Workers(app_of(1))
    for name in "abc":
        workers.join(name)
        workers.settle(sorted(workers.told))
    before, standbys = workers.owners(), workers.standbys()
    del workers.told["b"]
    workers.settle("ca")

    orphans = {number for number, owner in before.items() if owner == "b"}
    assert orphans
    assert sum(workers.owners()[number] in standbys[number] for number in orphans) >= len(orphans) - 1


@pytest.mark.parametrize(
    ("actives", "standbys"),
    [
        ({"orders": [0, 0, 8, -1, 99]}, {}),
        ({"orders": list(range(8)), "gone": [0]}, {"orders": list(range(8)), "gone": [0]}),
        ({"orders": [0, 1, 2, 3], "payments": [4, 5]}, {"payments": [0]}),
    ],
)
def test_what_a_worker_cannot_have_counts_for_nothing(
    actives: dict[str, list[int]], standbys: dict[str, list[int]]
) -> None:
    workers = Workers(app_of(1))
    for name in "ab":
        workers.join(name)
        workers.told[name] = replace(workers.told[name], actives=actives, standbys=standbys)
    workers.settle("ab")

    assert sorted(workers.owners()) == list(range(8))
    assert sorted(len(one.actives["orders"]) for one in workers.told.values()) == [4, 4]
    assert all(len(found) == 1 for found in workers.standbys().values())


@pytest.mark.parametrize(
    ("workers", "replicas"),
    [
        (
            [
                ([5, 7], [10]),
                ([], [4, 5, 6]),
                ([0, 1], [5, 6]),
                ([2, 6, 10, 11], [0, 8, 9]),
                ([4], [3, 8, 11]),
                ([3, 8, 9], [0, 1, 5, 7]),
            ],
            2,
        ),
        ([([0, 2, 4], []), ([1, 7, 8, 11], []), ([10], []), ([5], []), ([3, 6, 9], []), ([], [])], 3),
    ],
)
def test_an_answer_is_found_where_faust_itself_looks_for_ever(
    workers: list[tuple[list[int], list[int]]], replicas: int
) -> None:
    told = {
        f"w{number}": Member(
            f"w{number}", "http://w", ("orders",), actives={"orders": active}, standbys={"orders": standby}
        )
        for number, (active, standby) in enumerate(workers)
    }
    found = assignment.assign(PartitionAssignor(APPS[0], replicas), told, {"orders": 12})

    actives = Counter(tp.partition for one in found.values() for tp in one.assignment.active_tps)
    assert actives == dict.fromkeys(range(12), 1)
    standbys = Counter(tp.partition for one in found.values() for tp in one.assignment.standby_tps)
    assert standbys == dict.fromkeys(range(12), replicas)


def test_all_come_to_the_answer_of_a_worker_that_does_not_look_at_what_others_tell() -> None:
    told = members(APPS[0], "a", "b", "c")
    without = assignment.assign(PartitionAssignor(APPS[0], 0), told, COUNTS)
    told |= {"b": replace(told["b"], actives={"orders": [7, 6, 5]}), "c": replace(told["c"], tells=False)}

    found = assignment.assign(PartitionAssignor(APPS[0], 0), told, COUNTS)
    assert found["b"].assignment.actives["orders"] != [5, 6, 7]
    assert {name: one.assignment for name, one in found.items()} == {
        name: one.assignment for name, one in without.items()
    }


def test_workers_are_told_of_no_partitions_of_global_tables_of_which_all_have_all() -> None:
    app = faust.App("app", broker="danube://", table_standby_replicas=1)
    app.GlobalTable("totals", partitions=8)
    app.finalize()
    workers = Workers(app)
    for name in "abc":
        workers.join(name)
    workers.settle("abc")

    for one in workers.told.values():
        assert one.actives.keys() == one.standbys.keys() == COUNTS.keys() - {"app-totals-changelog"}


APPS = [app_of(replicas) for replicas in range(3)]
