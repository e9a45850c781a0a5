"""What the console reads in the metrics of one process: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
FLOWS: Final = {
    "danube_topic_msg_in_counter": 0,
    "danube_topic_bytes_in_counter": 1,
    "danube_consumer_msg_out_counter": 2,
    "danube_consumer_bytes_out_counter": 3,
}
_LAGS: Final = {
    "danube_subscription_lag_messages": 0,
    "danube_subscription_oldest_unacked_age_seconds": 1,
    "danube_subscription_redelivery_total": 2,
    "danube_subscription_dlq_total": 3,
}
_CONNECTED: Final = {
    "danube_topic_producers": 0,
    "danube_topic_consumers": 1,
    "danube_subscription_active_consumers": 2,
}
_SUBSCRIPTIONS: Final = 2
"""The column of `Connected` that counts series."""
_READ: Final = (
    "danube_topic_",
    "danube_consumer_",
    "danube_subscription_",
    "danube_publish_failures",
    "danube_storage_s",
    "danube_broker_rpc_total",
    "process_",
)
_FAILURES: Final = "danube_publish_failures_total"
_ARCHIVED: Final = "danube_storage_segment_bytes_total"
_CALLS: Final = "danube_broker_rpc_total"
_REPLAYED: Final = "danube_storage_served_bytes_total"
_CPU_S: Final = "process_cpu_seconds_total"
_MEMORY_BYTES: Final = "process_resident_memory_bytes"


class Flow(NamedTuple):
    """Messages and bytes that producers sent and consumers were sent: totals, or rates a second."""

    messages_in: float = 0.0
    bytes_in: float = 0.0
    messages_out: float = 0.0
    bytes_out: float = 0.0

    def plus(self, other: Flow) -> Flow:
        """Add up."""
        return Flow(*(one + more for one, more in zip(self, other, strict=True)))


class Lag(NamedTuple):
    """How far a subscription is behind, and what was delivered again and given up over its owner's life."""

    messages: float = 0.0
    age_s: float = 0.0
    redelivered: float = 0.0
    dead_letters: float = 0.0


class Connected(NamedTuple):
    """Who uses a topic now, as far as its owner tells."""

    producers: int = 0
    consumers: int = 0
    subscriptions: int = 0


@dataclass(frozen=True)
class Scrape:
    """The metrics of one process at one moment.

    Attributes:
        flows: totals since the process began, by topic; ``other`` are those that the metrics fold.
        lags: by topic and subscription.
        connected: by topic.
        failures: messages that were not published, by topic and reason.
        calls: RPCs that it has answered.
        archived_bytes: of segments that it has made durable, since it began.
        replayed_bytes: of segments that it has read for topic owners.
    """

    cpu_s: float = 0.0
    memory_bytes: float = 0.0
    flows: dict[str, Flow] = field(default_factory=dict)
    lags: dict[tuple[str, str], Lag] = field(default_factory=dict)
    connected: dict[str, Connected] = field(default_factory=dict)
    failures: dict[tuple[str, str], float] = field(default_factory=dict)
    calls: float = 0.0
    archived_bytes: float = 0.0
    replayed_bytes: float = 0.0


def parse(text: str) -> Scrape:
    """Read Prometheus' text format; what the console does not show, or cannot read, is passed over."""
    process: dict[str, float] = {}
    flows: dict[str, list[float]] = {}
    lags: dict[tuple[str, str], list[float]] = {}
    connected: dict[str, list[int]] = {}
    failures: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        if not line.startswith(_READ):
            continue
        if (found := _SAMPLE.match(line)) is None:
            continue
        name, labelled, value = found.groups()
        if name in (_CPU_S, _MEMORY_BYTES, _ARCHIVED, _REPLAYED, _CALLS):
            process[name] = process.get(name, 0.0) + float(value)
        elif (column := FLOWS.get(name)) is not None:
            labels = _labels(labelled)
            flows.setdefault(labels.get("topic", ""), [0.0] * 4)[column] += float(value)
        elif (column := _LAGS.get(name)) is not None:
            labels = _labels(labelled)
            key = labels.get("topic", ""), labels.get("subscription", "")
            lags.setdefault(key, [0.0] * 4)[column] += float(value)
        elif (column := _CONNECTED.get(name)) is not None:
            values = connected.setdefault(_labels(labelled).get("topic", ""), [0] * 3)
            values[column] += 1 if column == _SUBSCRIPTIONS else int(float(value))
        elif name == _FAILURES:
            labels = _labels(labelled)
            failures[labels.get("topic", ""), labels.get("reason", "")] = float(value)
    return Scrape(
        process.get(_CPU_S, 0.0),
        process.get(_MEMORY_BYTES, 0.0),
        {topic: Flow(*values) for topic, values in flows.items()},
        {key: Lag(*values) for key, values in lags.items()},
        {topic: Connected(*values) for topic, values in connected.items()},
        failures,
        process.get(_CALLS, 0.0),
        process.get(_ARCHIVED, 0.0),
        process.get(_REPLAYED, 0.0),
    )


def _labels(text: str | None) -> dict[str, str]:
    return {
        name: _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], value)
        for name, value in _LABEL.findall(text or "")
    }
