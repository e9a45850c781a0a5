from __future__ import annotations

import asyncio

import pytest

from danube_common.cluster import keys
from danube_common.cluster.load import BundleLoad, LoadReport
from danube_common.cluster.records import decode_record
from danube_common.model.failure_policy import FailurePolicy
from danube_common.runtime.metrics import Metrics
from danube_common.wire.owner.acknowledgements import Nack
from danube_common.wire.owner.subscriptions import SetFailurePolicy, Unsubscribe
from danube_harness.services.owner_harness import Gateway, OwnerHarness
from danube_topic_owner import process_usage
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.load_reporter import LoadReporter
from danube_topic_owner.owner_metrics import OwnerMetrics


class Clock:
    now = 100.0
    cpu = 7.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reporter(harness: OwnerHarness, owner: BundleOwner, clock: Clock) -> LoadReporter:
    assert owner
    return LoadReporter(
        "71",
        harness.store,
        harness.catalogue,
        lambda: {owner.context.bundle: owner for owner in harness.owners.values()},
        owner.context.metrics,
        clock=lambda: clock.now,
        cpu_s=lambda: clock.cpu,
    )


def of_bundle(report: LoadReport) -> BundleLoad:
    assert list(report.bundles) == ["f0"]
    return report.bundles["f0"]


async def test_a_report_has_the_rates_of_its_interval_and_no_more(
    harness: OwnerHarness, gateway: Gateway, reporter: LoadReporter, clock: Clock
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, *["x" * 10] * 20)
    await gateway.until(lambda: len(gateway.texts()) == 20)
    clock.now += 4
    clock.cpu += 1
    report = reporter.measure()
    load = of_bundle(report)
    assert (report.interval_s, report.cpu_percent) == (4, 25)
    assert (load.topics, load.subscriptions, load.consumers) == (1, 1, 1)
    assert (load.in_messages_per_s, load.in_bytes_per_s, load.out_messages_per_s) == (5, 50, 5)
    assert load.out_bytes_per_s == load.in_bytes_per_s
    assert (load.unacked, load.behind) == (20, 0)

    await gateway.ack(topic.name, "s", gateway.positions())
    await harness.settle()
    clock.now += 4
    after = of_bundle(reporter.measure())
    assert (after.in_messages_per_s, after.out_messages_per_s, after.out_bytes_per_s) == (0, 0, 0)
    assert after.unacked == 0


async def test_a_subscription_without_a_reader_is_behind_once_messages_come(
    harness: OwnerHarness, gateway: Gateway, reporter: LoadReporter
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.subscribe(topic.name, "s")
    await harness.publish(topic, "m")
    await harness.settle()
    assert of_bundle(reporter.measure()).behind == 1


async def test_what_another_owner_counted_before_is_not_subtracted(
    harness: OwnerHarness, gateway: Gateway, reporter: LoadReporter, clock: Clock
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await harness.publish(topic, *"abcdef")
    await gateway.until(lambda: len(gateway.texts()) == 6)
    reporter.measure()
    await harness.kill()
    await harness.own()
    await harness.publish(topic, "one")
    await harness.settle()
    clock.now += 1
    assert of_bundle(reporter.measure()).in_messages_per_s == 1


async def test_a_report_is_there_for_the_cluster(harness: OwnerHarness, reporter: LoadReporter) -> None:
    await reporter.publish()
    entry = await harness.store.get(keys.load_key("71"))
    assert entry is not None
    assert decode_record(LoadReport, entry.value).instance_id == "71"


async def test_a_store_that_is_away_does_not_end_the_reports(
    harness: OwnerHarness, reporter: LoadReporter
) -> None:
    harness.store.reachable = False
    await reporter.publish()
    harness.store.reachable = True
    await reporter.publish()
    assert await harness.store.get(keys.load_key("71")) is not None


def test_the_process_is_measured() -> None:
    before, began = process_usage.memory_bytes(), process_usage.cpu_s()
    ballast = bytearray(b"x" * (64 << 20))
    assert process_usage.memory_bytes() - before > 32 << 20
    assert process_usage.cpu_s() > began
    assert len(ballast) < process_usage.memory_bytes() < process_usage.memory_bytes_max()


def test_the_total_is_the_sum_of_the_bundles() -> None:
    load = BundleLoad(1, 2, 3, 4.0, 5.0, 6.0, 7.0, 8, 9)
    report = LoadReport("1", 0, 1.0, 0.0, 0, 0.0, {"f0": load, "m0": load})
    assert report.total == BundleLoad(2, 4, 6, 8.0, 10.0, 12.0, 14.0, 16, 18)
    assert LoadReport("1", 0, 1.0, 0.0, 0, 0.0, {}).total == BundleLoad()


async def test_a_subscriptions_lag_and_the_age_of_its_oldest_message_are_told_and_end(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway, reporter: LoadReporter
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, *["x"] * 5)
    await gateway.until(lambda: len(gateway.texts()) == 5)
    await gateway.ack(topic.name, "s", gateway.positions()[1:3])
    metrics = owner.context.metrics

    def told() -> tuple[float, float]:
        reporter.measure_lags()
        found = [
            family.labels(topic.name, "s")._value.get()
            for family in (metrics.lag, metrics.oldest_unacked_age_s)
        ]
        return found[0], found[1]

    await asyncio.sleep(0.05)
    lag, age_s = told()
    assert lag == 3
    assert age_s > 0
    await gateway.ack(topic.name, "s", gateway.positions())
    assert told() == (0, 0)


async def test_the_gauges_of_a_bundle_that_went_to_another_owner_are_gone(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await harness.publish(topic, "x")
    await gateway.until(lambda: len(gateway.texts()) == 1)
    owners = {owner.context.bundle: owner}
    metrics = Metrics("topic-owner", "1")
    told = OwnerMetrics(metrics, "1")
    reporter = LoadReporter("1", harness.store, harness.catalogue, lambda: owners, told)
    reporter.measure_lags()
    told.consumers.labels(topic.name).set(1)
    told.unacked.labels(topic.name, "s").set(1)
    assert b'danube_subscription_lag_messages{subscription="s",topic="/default/t"} 1.0' in metrics.render()
    owners.clear()
    reporter.measure_lags()
    assert b"/default/t" not in metrics.render()


async def test_a_topic_whose_last_subscription_is_deleted_keeps_the_gauge_of_its_producers(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.subscribe(topic.name, "s")
    metrics = Metrics("topic-owner", "1")
    told = OwnerMetrics(metrics, "1")
    reporter = LoadReporter(
        "1", harness.store, harness.catalogue, lambda: {owner.context.bundle: owner}, told
    )
    reporter.measure_lags()
    told.producers.labels(topic.name).set(1)
    told.unacked.labels(topic.name, "s").set(1)
    await harness.ask(Unsubscribe(topic.name, "s"))
    reporter.measure_lags()
    gauges = metrics.render()
    assert b'danube_topic_producers{topic="/default/t"} 1.0' in gauges
    assert b'subscription="s"' not in gauges


async def test_the_age_of_a_subscription_does_not_begin_with_messages_of_other_topics(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway
) -> None:
    topic, other = await harness.topic("/default/t"), await harness.topic("/default/other")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, "old")
    await gateway.until(lambda: len(gateway.texts()) == 1)
    await gateway.ack(topic.name, "s", gateway.positions())
    for _ in range(5):
        await harness.publish(other, "x")
    await harness.publish(topic, "new")
    await gateway.until(lambda: len(gateway.texts()) == 2)
    (subscription,) = owner.context.log_subscriptions()
    assert subscription.oldest_open == gateway.positions()[-1]
    await gateway.ack(topic.name, "s", gateway.positions())
    assert subscription.oldest_open is None


async def test_what_failed_in_a_subscription_is_told_and_ends(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway, reporter: LoadReporter
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await harness.publish(topic, "x")
    await gateway.until(lambda: len(gateway.texts()) == 1)
    (position,) = gateway.positions()
    metrics = owner.context.metrics

    def told() -> list[float]:
        reporter.measure_lags()
        families = (metrics.pending_redelivery, metrics.terminal_blocked)
        return [family.labels(topic.name, "s")._value.get() for family in families]

    await harness.ask(Nack(topic.name, "s", position, position))
    assert told() == [1, 0]
    await harness.ask(SetFailurePolicy(topic.name, "s", FailurePolicy(max_redelivery_count=0)))
    assert told() == [0, 1]
    await gateway.ack(topic.name, "s", [position])
    assert told() == [0, 0]
    assert metrics.nacked.labels(topic.name, "s")._value.get() == 1
