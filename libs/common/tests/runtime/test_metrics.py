from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_common.runtime.metrics import LATENCY_BUCKETS_S, Latencies, Metrics


def lines(metrics: Metrics, name: str) -> list[str]:
    return sorted(line for line in metrics.render().decode().splitlines() if line.startswith(name))


def test_two_processes_metrics_do_not_meet() -> None:
    first, second = Metrics("a", "1"), Metrics("a", "2")
    first.plain_counter("x", "x").inc()
    second.plain_counter("x", "x").inc(5)
    assert lines(first, "danube_x_total") == ["danube_x_total 1.0"]
    assert lines(second, "danube_x_total") == ["danube_x_total 5.0"]
    assert lines(second, "danube_instance{") == ['danube_instance{instance="2",service="a"} 1.0']


def test_label_sets_over_the_bound_are_counted_as_other() -> None:
    metrics = Metrics("a", "1")
    topics = metrics.counter("in", "in", ["topic", "kind"], series_max=2)
    for topic in ("t1", "t2", "t3", "t4", "t1"):
        topics.labels(topic, "k").inc()
    assert lines(metrics, "danube_in_total") == [
        'danube_in_total{kind="k",topic="t1"} 2.0',
        'danube_in_total{kind="k",topic="t2"} 1.0',
        'danube_in_total{kind="other",topic="other"} 2.0',
    ]
    assert lines(metrics, "danube_metric_folds_total") == [
        'danube_metric_folds_total{metric="danube_in"} 2.0'
    ]


def test_label_sets_over_the_bound_of_a_gauge_are_left_out_and_counted() -> None:
    metrics = Metrics("a", "1")
    depth = metrics.gauge("depth", "depth", ["topic"], series_max=1)
    for topic in ("t1", "t2", "t3"):
        depth.labels(topic).set(7)
    assert lines(metrics, "danube_depth{") == ['danube_depth{topic="t1"} 7.0']
    assert lines(metrics, "danube_metric_folds_total") == [
        'danube_metric_folds_total{metric="danube_depth"} 2.0'
    ]


def test_a_removed_series_frees_its_place() -> None:
    metrics = Metrics("a", "1")
    depth = metrics.gauge("depth", "depth", ["topic"], series_max=1)
    depth.labels("t1").set(1)
    depth.remove("t1")
    depth.remove("never there")
    depth.labels("t2").set(2)
    assert lines(metrics, "danube_depth{") == ['danube_depth{topic="t2"} 2.0']


def test_histograms_are_bounded_too() -> None:
    metrics = Metrics("a", "1")
    took = metrics.histogram("took_seconds", "took", ["topic"], buckets=(1,), series_max=1)
    took.labels("t1").observe(0.5)
    took.labels("t2").observe(2)
    assert lines(metrics, "danube_took_seconds_count") == [
        'danube_took_seconds_count{topic="other"} 1.0',
        'danube_took_seconds_count{topic="t1"} 1.0',
    ]


@given(st.lists(st.floats(0, 20) | st.sampled_from(LATENCY_BUCKETS_S), max_size=20))
def test_latencies_counted_together_are_what_one_by_one_they_are(seconds: list[float]) -> None:
    metrics, latencies = Metrics("a", "1"), Latencies()
    together = metrics.histogram("together_seconds", "", ["p"])
    alone = metrics.histogram("alone_seconds", "", ["p"])
    metrics.on_render(lambda: latencies.flush(together.labels("p")))
    for one in seconds:
        latencies.count(one)
        alone.labels("p").observe(one)
    alone.labels("p")
    for _ in range(2):
        buckets = {
            name: [line.partition("{")[2] for line in lines(metrics, f"danube_{name}_seconds_bucket")]
            for name in ("together", "alone")
        }
        assert buckets["together"] == buckets["alone"]
    totals = [float(lines(metrics, f"danube_{name}_seconds_sum")[0].split()[1]) for name in buckets]
    assert abs(totals[0] - totals[1]) < 1e-9


def test_a_counter_can_keep_the_name_the_original_gave_it() -> None:
    metrics = Metrics("gateway", "1")
    metrics.counter("topic_msg_in_counter", "Messages.", ("topic",), suffix=False).labels("/a/b").inc(2)
    metrics.counter("other_counter", "Others.", ("topic",)).labels("/a/b").inc()
    rendered = metrics.render().decode()
    assert 'danube_topic_msg_in_counter{topic="/a/b"} 2.0' in rendered
    assert "# TYPE danube_topic_msg_in_counter counter" in rendered
    assert 'danube_other_counter_total{topic="/a/b"} 1.0' in rendered
    assert "_created" not in rendered
