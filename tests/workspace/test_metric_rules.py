"""Every metric is named by Prometheus' rules, says what it is, and has a bounded number of series."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from danube_common.runtime.metrics import SERIES_MAX, Family, Metrics
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_topic_owner.owner_metrics import OwnerMetrics

ROOT: Final = Path(__file__).resolve().parents[2]
MANUAL: Final = ROOT / "docs" / "operations" / "monitor.md"
KINDS: Final = re.compile(r"(plain_)?(counter|gauge)|histogram")
NAME: Final = re.compile(r"[a-z]+(_[a-z]+)+")
UNITS: Final = (
    *("seconds", "bytes", "messages", "segments", "bundles", "topics", "producers", "consumers"),
    *("sessions", "connections", "acks", "findings"),
)
"""What the name of a gauge or histogram ends in: a unit of Prometheus, or what is counted."""
OTHERWISE_NAMED: Final = {
    "admin_leading": "1 or 0, without a unit",
    "broker_topics_owned": "the original's name",
    "subscription_pending_redelivery": "the original's name",
    "subscription_terminal_blocked": "the original's name",
    "cluster_stream_bytes_max": "bytes, the bound of cluster_stream_bytes and beside it in lists",
    "cluster_stream_replicas_away": "replicas",
    "subscriptions_waiting_for_archive": "subscriptions",
    "topic_msg_in_counter": "the original's name, without _total",
    "topic_bytes_in_counter": "the original's name, without _total",
    "consumer_msg_out_counter": "the original's name, without _total",
    "consumer_bytes_out_counter": "the original's name, without _total",
}
RESERVED: Final = ("_total", "_count", "_sum", "_bucket", "_created", "_info")
"""Endings that Prometheus and its client give."""
UNBOUNDED: Final = {"topic", "subscription", "producer", "consumer"}
"""Labels with names of clients: their series are SERIES_MAX a metric."""
FEW: Final = {
    *("backend", "bound", "broker", "bundle", "cache", "check", "code", "instance", "method"),
    *("poison_policy", "pool", "reason", "result", "service", "severity", "state", "stream"),
}
"""Labels whose values the platform gives, and not a client."""
PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
TOPICS: Final = 10_000


class Declared(NamedTuple):
    """A call that makes a metric."""

    kind: str
    name: str
    text: str
    labels: tuple[str, ...]
    options: frozenset[str]


@cache
def declared() -> tuple[Declared, ...]:
    """All metrics of all services and tools, read from the calls that make them."""
    return tuple(_declared())


def _declared() -> Iterator[Declared]:
    for folder in ("services", "libs", "tools"):
        for path in sorted((ROOT / folder).rglob("src/**/*.py")):
            text = path.read_text()
            if "metrics" not in text:
                continue
            tree = ast.parse(text)
            known = dict(_tuples(tree))
            for node in ast.walk(tree):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and KINDS.fullmatch(node.func.attr)
                ):
                    name, told, *labels = node.args
                    yield Declared(
                        node.func.attr,
                        ast.literal_eval(name),
                        ast.literal_eval(told),
                        _value(labels[0], known) if labels else (),
                        frozenset(one.arg or "" for one in node.keywords),
                    )


def _tuples(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The names of a module that are given tuples."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            target = node.targets[0]
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Tuple):
                for each, value in zip(target.elts, node.value.elts, strict=False):
                    if isinstance(each, ast.Name):
                        yield each.id, value


def _value(node: ast.expr, known: dict[str, ast.expr]) -> tuple[str, ...]:
    found = known[node.id] if isinstance(node, ast.Name) else node
    return tuple(ast.literal_eval(found))


def test_every_metric_says_what_it_is_and_has_one_meaning() -> None:
    metrics = declared()
    assert len(metrics) > 80
    assert [one.name for one in metrics if not re.fullmatch(r"[A-Z1].{8,}\.", one.text)] == []
    names = [one.name for one in metrics]
    assert sorted({one for one in names if names.count(one) > 1}) == []


def test_the_name_of_every_metric_ends_as_prometheus_says() -> None:
    metrics = declared()
    for one in metrics:
        assert NAME.fullmatch(one.name), one
        assert not one.name.endswith(RESERVED), one  # counters get _total by themselves
    odd = {
        one.name
        for one in metrics
        if ("suffix" in one.options if "counter" in one.kind else not one.name.endswith(UNITS))
    }
    assert odd == OTHERWISE_NAMED.keys()


def test_every_label_is_one_whose_values_are_few_or_bounded() -> None:
    for one in declared():
        assert set(one.labels) <= UNBOUNDED | FEW, one
        assert "series_max" not in one.options or not UNBOUNDED & set(one.labels), one


def test_every_metric_is_in_the_manual() -> None:
    text = MANUAL.read_text()
    told = set(re.findall(r"`([a-z]\w+)`", text))
    for first, *ends in re.findall(r"`(\w+)`, `(_\w+)`(?:, `(_\w+)`)?(?:, `(_\w+)`)?(?:, `(_\w+)`)?", text):
        stem = first.rpartition("_")[0]
        told |= {f"{stem}{end}" for end in ends}
    assert {one.name for one in declared()} - told == set()


def test_a_page_of_ten_thousand_topics_is_bounded_and_says_what_is_left_out() -> None:
    metrics = Metrics("both", "1")
    families: dict[str, Family] = {}  # type: ignore[type-arg]
    for service in (GatewayMetrics(metrics), OwnerMetrics(metrics, "b")):
        families |= {name: each for name, each in vars(service).items() if isinstance(each, Family)}
    labels = {one.name: len(one.labels) for one in declared() if UNBOUNDED & set(one.labels)}
    assert len(families) > 25
    for name, family in families.items():
        for number in range(TOPICS if name == "lag" else SERIES_MAX + 1):  # more take time and change nothing
            family.labels(*(f"/default/topic-{number}",) * family._labels)
    page = metrics.render()
    assert len(page) < PAGE_BYTES_MAX
    for name in labels:
        stem = rf"danube_{name}(_total|_count)?".encode()
        series = len(re.findall(rb"^" + stem + rb"\{", page, re.MULTILINE))
        if series:
            assert SERIES_MAX <= series <= SERIES_MAX + 1, name
            folds = re.search(rb'danube_metric_folds_total\{metric="danube_%b"\} (\S+)' % name.encode(), page)
            assert folds is not None, name
            assert float(folds[1]) == (TOPICS - SERIES_MAX if name == "subscription_lag_messages" else 1), (
                name
            )
