from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.admin.tests.loads import BUNDLES, clusters, report

from danube_admin_service.cluster.ranking import LoadModel, LoadStrategy, spread_allowed, variation_percent
from danube_common.cluster.load import BundleLoad, LoadReport
from danube_common.model.bundle import Bundle

F0, F1, F2, F3 = BUNDLES[:4]
Cluster = tuple[dict[Bundle, str], dict[str, LoadReport]]


@given(clusters(), st.sampled_from(LoadStrategy))
def test_a_score_is_never_negative_nor_much_above_one(cluster: Cluster, strategy: LoadStrategy) -> None:
    assigned, reports = cluster
    load_model = LoadModel(strategy, reports, reports, assigned)
    assert all(-1e-9 <= load_model.score(owner) <= 1 + 1e-9 for owner in reports)


@given(clusters(), st.sampled_from(LoadStrategy), st.data())
def test_a_bundle_there_and_back_leaves_every_score_as_it_was(
    cluster: Cluster, strategy: LoadStrategy, data: st.DataObject
) -> None:
    assigned, reports = cluster
    load_model = LoadModel(strategy, reports, reports, assigned)
    before = {owner: load_model.score(owner) for owner in reports}
    bundle = data.draw(st.sampled_from(sorted(assigned)))
    target = data.draw(st.sampled_from(sorted(reports)))
    load_model.move(bundle, assigned[bundle], target)
    load_model.move(bundle, target, assigned[bundle])
    assert {owner: load_model.score(owner) for owner in reports} == pytest.approx(before, abs=1e-9)


@given(clusters(), st.sampled_from(LoadStrategy), st.data())
def test_a_bundle_never_makes_its_new_owner_lighter(
    cluster: Cluster, strategy: LoadStrategy, data: st.DataObject
) -> None:
    assigned, reports = cluster
    load_model = LoadModel(strategy, reports, reports, assigned)
    bundle = data.draw(st.sampled_from(sorted(assigned)))
    target = data.draw(st.sampled_from(sorted(reports)))
    before = load_model.score(target)
    load_model.move(bundle, assigned[bundle], target)
    assert load_model.score(target) >= before - 1e-9


def test_fair_counts_topics_and_nothing_else() -> None:
    reports = {
        "a": report("a", {F0: BundleLoad(topics=30)}),
        "b": report("b", {F1: BundleLoad(topics=10, consumers=99, in_bytes_per_s=1e9)}, cpu=100, memory=90),
    }
    load_model = LoadModel(LoadStrategy.FAIR, reports, reports, {F0: "a", F1: "b"})
    assert (load_model.score("a"), load_model.score("b")) == (0.75, 0.25)


def test_fair_counts_bundles_while_there_are_no_topics() -> None:
    reports = {owner: report(owner, {}) for owner in "ab"}
    load_model = LoadModel(LoadStrategy.FAIR, reports, reports, {F0: "a", F1: "a", F2: "a", F3: "b"})
    assert (load_model.score("a"), load_model.score("b")) == (0.75, 0.25)


def test_balanced_weighs_topic_load_cpu_and_memory_as_documented() -> None:
    busy = BundleLoad(topics=1, consumers=1, in_bytes_per_s=1, unacked=1)
    reports = {"a": report("a", {F0: busy}, cpu=50, memory=20), "b": report("b", {F1: BundleLoad()})}
    load_model = LoadModel(LoadStrategy.BALANCED, reports, reports, {F0: "a", F1: "b"})
    assert load_model.score("a") == pytest.approx(0.3 * 1 + 0.35 * 0.5 + 0.35 * 0.2)
    assert load_model.score("b") == 0


def test_topic_load_weighs_topics_throughput_consumers_and_backlog_as_documented() -> None:
    of = {
        F0: BundleLoad(topics=1),
        F1: BundleLoad(out_bytes_per_s=1),
        F2: BundleLoad(consumers=1),
        F3: BundleLoad(unacked=1),
    }
    reports = {str(bundle): report(str(bundle), {bundle: load}) for bundle, load in of.items()}
    load_model = LoadModel(LoadStrategy.BALANCED, reports, reports, {bundle: str(bundle) for bundle in of})
    scores = [load_model.score(str(bundle)) / 0.3 for bundle in of]
    assert scores == pytest.approx([0.2, 0.3, 0.3, 0.2])


@pytest.mark.parametrize(
    ("cpu", "memory", "score"),
    [
        (60, 30, (0.6 + 0.3) / 3),
        (80, 30, 0.5 * 0.8 + 0.25 * 0.3),
        (30, 90, 0.5 * 0.9 + 0.25 * 0.3),
        (95, 90, 0.5 * 0.95 + 0.25 * 0.9),
    ],
)
def test_weighted_load_lets_a_resource_above_70_percent_weigh_one_half(
    cpu: float, memory: float, score: float
) -> None:
    reports = {"a": report("a", {}, cpu=cpu, memory=memory)}
    load_model = LoadModel(LoadStrategy.WEIGHTED_LOAD, reports, reports, {})
    assert load_model.score("a") == pytest.approx(score)


def test_cpu_time_goes_with_its_bundle_and_memory_stays() -> None:
    reports = {
        "a": report("a", {F0: BundleLoad(in_bytes_per_s=3), F1: BundleLoad(in_bytes_per_s=1)}, cpu=80),
        "b": report("b", {}),
    }
    load_model = LoadModel(LoadStrategy.BALANCED, reports, reports, {F0: "a", F1: "a"})
    load_model.move(F0, "a", "b")
    assert load_model.score("b") == pytest.approx(0.3 * 0.3 * 0.75 + 0.35 * 0.6)
    assert load_model.score("a") == pytest.approx(0.3 * 0.3 * 0.25 + 0.35 * 0.2)


def test_of_owners_about_as_light_the_one_with_the_fewest_bundles_is_taken() -> None:
    reports = {
        "a": report("a", {F0: BundleLoad(topics=100)}),
        "b": report("b", {F1: BundleLoad(topics=52), F2: BundleLoad(topics=52)}),
    }
    load_model = LoadModel(LoadStrategy.FAIR, reports, reports, {F0: "a", F1: "b", F2: "b"})
    assert load_model.lightest(reports) == "a"
    reports["a"] = report("a", {F0: BundleLoad(topics=110)})
    reports["b"] = report("b", {F1: BundleLoad(topics=52), F2: BundleLoad(topics=50)})
    assert (
        LoadModel(LoadStrategy.FAIR, reports, reports, {F0: "a", F1: "b", F2: "b"}).lightest(reports) == "a"
    )
    reports["a"] = report("a", {F0: BundleLoad(topics=150)})
    assert (
        LoadModel(LoadStrategy.FAIR, reports, reports, {F0: "a", F1: "b", F2: "b"}).lightest(reports) == "b"
    )


def test_a_bundle_reported_twice_counts_as_the_later_report_says() -> None:
    reports = {
        "a": report("a", {F0: BundleLoad(topics=7)}, at_ms=1),
        "b": report("b", {F0: BundleLoad(topics=9), F1: BundleLoad(topics=1)}, at_ms=2),
    }
    load_model = LoadModel(LoadStrategy.FAIR, reports, reports, {F0: "b", F1: "b"})
    assert load_model.weight(F0).topics == 9


def test_bundles_of_an_owner_that_is_gone_keep_their_weight() -> None:
    reports = {"a": report("a", {}), "gone": report("gone", {F0: BundleLoad(topics=7)})}
    load_model = LoadModel(LoadStrategy.FAIR, ["a"], reports, {F0: "gone"})
    assert load_model.score("a") == 0
    load_model.add(F0, "a")
    assert load_model.score("a") == 1


def test_variation_is_that_of_the_documented_thresholds() -> None:
    assert variation_percent([]) == variation_percent([0, 0]) == variation_percent([5, 5, 5]) == 0
    assert variation_percent([1, 3]) == 50


def test_an_owner_that_comes_without_a_bundle_is_always_beyond_the_spread() -> None:
    for strategy in LoadStrategy:
        for owners in range(2, 10):
            for bundles in range(owners, 200):
                fullest = -(-bundles // (owners - 1))
                assert spread_allowed(strategy, bundles, owners) < fullest
