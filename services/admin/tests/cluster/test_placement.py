from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.admin.tests.loads import BUNDLES, OWNERS, report

from danube_admin_service.cluster.placement import plan
from danube_admin_service.cluster.ranking import LoadModel, LoadStrategy
from danube_common.cluster.load import BundleLoad
from danube_common.model.bundle import Bundle

bundles_of_a_layout = st.integers(1, 16).map(lambda count: BUNDLES[:count])
placements = st.dictionaries(st.sampled_from(BUNDLES), st.sampled_from(OWNERS))
living = st.sets(st.sampled_from(OWNERS))
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def applied(assigned: dict[Bundle, str], changes: dict[Bundle, str]) -> dict[Bundle, str]:
    return {**assigned, **changes}


def spread(bundles: list[Bundle], assigned: dict[Bundle, str], live: set[str]) -> int:
    per_owner = [sum(assigned[b] == owner for b in bundles) for owner in live]
    return max(per_owner) - min(per_owner)


@unhurried
@given(bundles_of_a_layout, placements, placements, living, st.integers(0, 4))
def test_every_bundle_has_a_living_owner_whenever_one_lives(
    bundles: list[Bundle],
    assigned: dict[Bundle, str],
    claimed: dict[Bundle, str],
    live: set[str],
    handovers_max: int,
) -> None:
    after = applied(assigned, plan(bundles, assigned, claimed, live, handovers_max=handovers_max))
    assert not live or all(after[bundle] in live for bundle in bundles)


@unhurried
@given(bundles_of_a_layout, placements, placements)
def test_nothing_changes_while_nobody_lives(
    bundles: list[Bundle], assigned: dict[Bundle, str], claimed: dict[Bundle, str]
) -> None:
    assert plan(bundles, assigned, claimed, set()) == {}


@unhurried
@given(bundles_of_a_layout, living.filter(bool))
def test_fresh_bundles_are_spread_evenly(bundles: list[Bundle], live: set[str]) -> None:
    assert spread(bundles, plan(bundles, {}, {}, live), live) <= 1


@unhurried
@given(bundles_of_a_layout, placements, placements, living.filter(bool))
def test_with_handovers_enough_the_owners_differ_by_one_bundle_at_most(
    bundles: list[Bundle], assigned: dict[Bundle, str], claimed: dict[Bundle, str], live: set[str]
) -> None:
    changes = plan(bundles, assigned, claimed, live, handovers_max=len(BUNDLES))
    assert spread(bundles, applied(assigned, changes), live) <= 1


@unhurried
@given(bundles_of_a_layout, placements, placements, living.filter(bool), st.integers(0, 4))
def test_a_bundle_leaves_a_living_owner_only_when_that_owner_has_more_than_its_share(
    bundles: list[Bundle],
    assigned: dict[Bundle, str],
    claimed: dict[Bundle, str],
    live: set[str],
    handovers_max: int,
) -> None:
    changes = plan(bundles, assigned, claimed, live, handovers_max=handovers_max)
    after = applied(assigned, changes)
    floor = len(bundles) // len(live)
    left = {assigned[b] for b in changes if assigned.get(b) in live and assigned[b] != changes[b]}
    for owner in left:
        assert sum(after[b] == owner for b in bundles) >= floor


@unhurried
@given(bundles_of_a_layout, placements, placements, living.filter(bool), st.integers(0, 4))
def test_every_change_changes_something(
    bundles: list[Bundle],
    assigned: dict[Bundle, str],
    claimed: dict[Bundle, str],
    live: set[str],
    handovers_max: int,
) -> None:
    changes = plan(bundles, assigned, claimed, live, handovers_max=handovers_max)
    assert all(assigned.get(bundle) != owner for bundle, owner in changes.items())
    assert set(changes) <= set(bundles)


@unhurried
@given(bundles_of_a_layout, placements, living.filter(bool), st.integers(0, 4))
def test_no_more_bundles_than_allowed_are_on_their_way_between_living_owners(
    bundles: list[Bundle], assigned: dict[Bundle, str], live: set[str], handovers_max: int
) -> None:
    serving = {b: owner for b, owner in assigned.items() if owner in live}
    after = applied(assigned, plan(bundles, assigned, serving, live, handovers_max=handovers_max))
    assert sum(after[b] != serving[b] for b in bundles if b in serving) <= handovers_max


@unhurried
@given(bundles_of_a_layout, placements, living.filter(bool), st.integers(1, 4))
def test_bounded_steps_come_to_rest_in_balance(
    bundles: list[Bundle], assigned: dict[Bundle, str], live: set[str], handovers_max: int
) -> None:
    claimed: dict[Bundle, str] = {}
    for _step in range(len(bundles) + 1):
        changes = plan(bundles, assigned, claimed, live, handovers_max=handovers_max)
        assigned = applied(assigned, changes)
        claimed = {bundle: assigned[bundle] for bundle in bundles}
    assert changes == {}
    assert spread(bundles, assigned, live) <= 1


def test_a_second_owner_gets_half_of_what_the_first_has() -> None:
    alone = plan(BUNDLES, {}, {}, {"a"})
    changes = plan(BUNDLES, alone, alone, {"a", "b"})
    assert set(changes.values()) == {"b"}
    assert len(changes) == len(BUNDLES) // 2


def test_a_dead_owners_bundles_go_to_the_others_and_nothing_else_moves() -> None:
    assigned = plan(BUNDLES, {}, {}, {"a", "b", "c", "d"})
    changes = plan(BUNDLES, assigned, assigned, {"a", "b", "c"})
    assert set(changes) == {b for b in BUNDLES if assigned[b] == "d"}
    assert sorted(Counter(applied(assigned, changes).values()).values()) == [5, 5, 6]


def test_a_served_bundle_without_an_assignment_stays_where_it_is_served() -> None:
    serving = {BUNDLES[0]: "b", BUNDLES[1]: "a"}
    assert plan(BUNDLES[:2], {}, serving, {"a", "b"}) == serving


def test_bundles_nobody_serves_yet_move_before_served_ones() -> None:
    assigned = dict.fromkeys(BUNDLES[:4], "a")
    serving = dict.fromkeys(BUNDLES[:2], "a")
    assert plan(BUNDLES[:4], assigned, serving, {"a", "b"}, handovers_max=0) == {
        BUNDLES[2]: "b",
        BUNDLES[3]: "b",
    }


def test_equal_owners_are_taken_in_the_order_of_their_ids() -> None:
    assert list(plan(BUNDLES[:3], {}, {}, {"c", "a", "b"}).values()) == ["a", "b", "c"]


# Drained owners


@unhurried
@given(bundles_of_a_layout, placements, living.filter(lambda live: len(live) > 1), st.data())
def test_a_drained_owner_gets_nothing_while_another_lives(
    bundles: list[Bundle], assigned: dict[Bundle, str], live: set[str], data: st.DataObject
) -> None:
    drained = data.draw(st.sets(st.sampled_from(sorted(live)), max_size=len(live) - 1))
    serving = {b: owner for b, owner in assigned.items() if owner in live}
    changes = plan(bundles, assigned, serving, live, drained=dict.fromkeys(drained, 1))
    assert not set(changes.values()) & drained


@unhurried
@given(
    bundles_of_a_layout,
    placements,
    living.filter(lambda live: len(live) > 1),
    st.integers(1, 4),
    st.integers(1, 4),
    st.data(),
)
def test_a_drained_owner_hands_over_in_bounded_steps_until_it_has_nothing(
    bundles: list[Bundle],
    assigned: dict[Bundle, str],
    live: set[str],
    parallel: int,
    handovers_max: int,
    data: st.DataObject,
) -> None:
    drained = data.draw(st.sets(st.sampled_from(sorted(live)), max_size=len(live) - 1))
    claimed = {b: owner for b, owner in assigned.items() if owner in live}
    for _step in range(3 * len(bundles) + 2):
        changes = plan(
            bundles,
            assigned,
            claimed,
            live,
            drained=dict.fromkeys(drained, parallel),
            handovers_max=handovers_max,
        )
        for owner in drained:
            leaving = [b for b in changes if claimed.get(b) == owner]
            assert len(leaving) <= parallel
        assigned = applied(assigned, changes)
        claimed = {bundle: assigned[bundle] for bundle in bundles}
    assert changes == {}
    assert not {assigned[bundle] for bundle in bundles} & drained
    assert spread(bundles, assigned, live - drained) <= 1


def test_owners_that_are_all_drained_keep_what_they_have_and_serve_what_nobody_else_can() -> None:
    assigned = {BUNDLES[0]: "a", BUNDLES[1]: "b", BUNDLES[2]: "gone"}
    changes = plan(BUNDLES[:3], assigned, assigned, {"a", "b"}, drained={"a": 1, "b": 1})
    assert changes == {BUNDLES[2]: "a"}


def test_owners_within_the_allowed_spread_are_not_levelled() -> None:
    assigned = {**dict.fromkeys(BUNDLES[:5], "a"), **dict.fromkeys(BUNDLES[5:8], "b")}
    assert plan(BUNDLES[:8], assigned, assigned, {"a", "b"}, level_above=2) == {}
    assert len(plan(BUNDLES[:8], assigned, assigned, {"a", "b"}, level_above=1)) == 1
    assert len(plan(BUNDLES[:8], assigned, assigned, {"a", "b", "c"}, level_above=2)) == 2


def test_what_a_dead_owner_had_goes_to_the_lightest() -> None:
    f0, f1, f2 = BUNDLES[:3]
    reports = {
        "a": report("a", {f0: BundleLoad(topics=100)}),
        "b": report("b", {f1: BundleLoad(topics=1)}),
        "gone": report("gone", {f2: BundleLoad(topics=9)}),
    }
    assigned = {f0: "a", f1: "b", f2: "gone"}
    load_model = LoadModel(LoadStrategy.BALANCED, "ab", reports, assigned)
    assert plan(assigned, assigned, {}, {"a", "b"}, load_model=load_model) == {f2: "b"}
