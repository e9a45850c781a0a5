from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from services.admin.tests.loads import BUNDLES, clusters, report

from danube_admin_service.cluster.placement import plan
from danube_admin_service.cluster.ranking import LoadModel, LoadStrategy, spread_allowed, variation_percent
from danube_admin_service.cluster.rebalance import Aggressiveness, propose, relocation
from danube_common.cluster.load import BundleLoad, LoadReport
from danube_common.model.bundle import Bundle

Cluster = tuple[dict[Bundle, str], dict[str, LoadReport]]
thresholds = st.sampled_from(Aggressiveness).map(lambda one: one.threshold_percent)


def evened(cluster: Cluster, strategy: LoadStrategy) -> dict[Bundle, str]:
    """The assignments once the leader has levelled them: what rebalancing begins with."""
    assigned, reports = cluster
    changes = plan(assigned, assigned, assigned, set(reports), handovers_max=1000)
    return {**assigned, **changes}


@given(clusters(), st.sampled_from(LoadStrategy), st.integers(0, 6), thresholds)
def test_the_heaviest_owner_never_gets_heavier_and_the_bound_is_kept(
    cluster: Cluster, strategy: LoadStrategy, moves_max: int, threshold: float
) -> None:
    reports, assigned = cluster[1], evened(cluster, strategy)
    load_model = LoadModel(strategy, reports, reports, assigned)
    before = {owner: load_model.score(owner) for owner in reports}
    spread_max = spread_allowed(strategy, len(assigned), len(reports))
    moves = propose(
        load_model,
        assigned,
        set(reports),
        moves_max=moves_max,
        threshold_percent=threshold,
        spread_max=spread_max,
    )
    assert len(moves) <= moves_max
    after = {owner: load_model.score(owner) for owner in reports}
    assert max(after.values()) <= max(before.values()) + 1e-9
    if moves:
        assert variation_percent(before.values()) > threshold


@given(clusters(), st.sampled_from(LoadStrategy), thresholds)
def test_what_was_moved_for_its_load_is_not_levelled_out_again(
    cluster: Cluster, strategy: LoadStrategy, threshold: float
) -> None:
    reports, assigned = cluster[1], evened(cluster, strategy)
    spread_max = spread_allowed(strategy, len(assigned), len(reports))
    load_model = LoadModel(strategy, reports, reports, assigned)
    for move in propose(
        load_model, assigned, set(reports), moves_max=10, threshold_percent=threshold, spread_max=spread_max
    ):
        assert assigned[move.bundle] == move.source != move.target
        assigned[move.bundle] = move.target
    assert plan(assigned, assigned, assigned, set(reports), level_above=spread_max) == {}


@given(clusters(), st.sampled_from(LoadStrategy), st.data())
def test_a_relocated_bundle_leaves_its_owner_and_is_not_levelled_back(
    cluster: Cluster, strategy: LoadStrategy, data: st.DataObject
) -> None:
    reports, assigned = cluster[1], evened(cluster, strategy)
    bundle = data.draw(st.sampled_from(sorted(assigned)))
    spread_max = spread_allowed(strategy, len(assigned), len(reports))
    load_model = LoadModel(strategy, reports, reports, assigned)
    changes = relocation(load_model, bundle, assigned, set(reports), spread_max=spread_max)
    if len(reports) == 1:
        assert changes == {}
        return
    assert changes[bundle] != assigned[bundle]
    after = {**assigned, **changes}
    assert plan(after, after, after, set(reports), level_above=spread_max) == {}


def test_a_hot_bundle_is_given_for_a_cold_one_when_counts_allow_no_more() -> None:
    f0, f1, f2, f3 = BUNDLES[:4]
    hot, cold = BundleLoad(topics=100), BundleLoad(topics=1)
    reports = {"a": report("a", {f0: hot, f1: hot}), "b": report("b", {f2: cold, f3: cold})}
    assigned = {f0: "a", f1: "a", f2: "b", f3: "b"}
    load_model = LoadModel(LoadStrategy.FAIR, reports, reports, assigned)
    moves = propose(load_model, assigned, {"a", "b"}, moves_max=10, threshold_percent=30, spread_max=1)
    assert {(move.bundle, move.source, move.target) for move in moves} == {(f0, "a", "b"), (f2, "b", "a")}


def test_balanced_owners_are_left_alone() -> None:
    reports = {
        owner: report(owner, {b: BundleLoad(topics=5)}) for owner, b in zip("ab", BUNDLES, strict=False)
    }
    assigned = dict(zip(BUNDLES, "ab", strict=False))
    load_model = LoadModel(LoadStrategy.FAIR, reports, reports, assigned)
    assert propose(load_model, assigned, "ab", moves_max=10, threshold_percent=20, spread_max=1) == []


def test_a_bundle_that_moved_a_short_time_ago_rests() -> None:
    f0, f1, f2 = BUNDLES[:3]
    load = BundleLoad(topics=10)
    reports = {"a": report("a", {f0: load, f1: load, f2: load}), "b": report("b", {})}
    assigned = dict.fromkeys((f0, f1, f2), "a")

    def moved(resting: set[Bundle]) -> list[Bundle]:
        load_model = LoadModel(LoadStrategy.BALANCED, reports, reports, assigned)
        moves = propose(
            load_model,
            assigned,
            "ab",
            moves_max=1,
            threshold_percent=20,
            spread_max=3,
            resting=resting,
        )
        return [move.bundle for move in moves]

    assert moved(set()) == [f0]
    assert moved({f0}) == [f1]
    assert moved({f0, f1, f2}) == []


def test_a_relocated_bundle_goes_to_the_lightest_and_brings_one_back_when_it_must() -> None:
    f0, f1, f2 = BUNDLES[:3]
    load = BundleLoad(topics=10)
    reports = {
        "a": report("a", {f0: load}),
        "b": report("b", {f1: load}),
        "c": report("c", {f2: BundleLoad(topics=1)}),
    }
    assigned = {f0: "a", f1: "b", f2: "c"}
    load_model = LoadModel(LoadStrategy.FAIR, reports, reports, assigned)
    changes = relocation(load_model, f0, assigned, "abc", spread_max=1)
    assert changes == {f0: "c", f2: "a"}
    assert Counter({**assigned, **changes}.values()) == Counter("abc")
