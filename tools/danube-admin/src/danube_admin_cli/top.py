"""``danube-admin top``."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated, Final

import typer

from danube_admin_cli.admin import Call
from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.metrics import instances, metrics_text
from danube_admin_cli.printing import show_json, show_table, show_text
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_terminal.choices import Form

TOPICS_MAX: Final = 200
"""So many topics are described at each turn: those with traffic first."""
CLEAR: Final = "\x1b[H\x1b[2J"
LINES_AROUND: Final = 4

COLUMNS: Final = {
    "topic": "Topic",
    "in_per_s": "In/s",
    "out_per_s": "Out/s",
    "subscription": "Subscription",
    "type": "Type",
    "consumers": "Consumers",
    "backlog": "Lag",
    "unacked": "Unacked",
    "note": "Note",
}
TOP_HELP = """Show live which topics are busy and which subscriptions lag.

One line a subscription, those with the largest lag first; a topic without any has a line too. Rates are
counted by the gateways (/metrics); they show as "-" if one cannot be reached from here. Ctrl-C ends it.

\b
Examples:
  danube-admin top
  danube-admin top --namespace orders --interval 5
  danube-admin top --once -o json | jq '.rows[] | select(.backlog > 1000)'
"""
_SAMPLE: Final = re.compile(
    r'^danube_(topic_msg_in|consumer_msg_out)_counter\{.*?topic="([^"]*)".*?\} (\S+)$', re.MULTILINE
)

Once = Annotated[bool, typer.Option("--once", help="Show it once, after one interval.")]
Interval = Annotated[
    float, typer.Option("--interval", min=0.5, max=3600, metavar="S", help="Seconds a turn.")
]
Only = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="Only topics of this namespace.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, metavar="N", help="The most lines shown.")]


@dataclass(frozen=True, slots=True)
class Row:
    """A subscription with its topic, or a topic without any. Rates are None if they are not known."""

    topic: str
    in_per_s: float | None
    out_per_s: float | None
    subscription: str = ""
    type: str = ""
    consumers: int = 0
    backlog: int = 0
    unacked: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages the gateways counted so far, by topic, and when."""

    at_s: float
    received: Counter[str]
    sent: Counter[str]
    complete: bool

    def rates_since(self, before: Counts) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Return the messages a second, in and out, by topic. Counters that began anew count as quiet."""
        took_s = max(self.at_s - before.at_s, 1e-9)
        pairs = (self.received, before.received), (self.sent, before.sent)
        received, sent = (
            {topic: max(now[topic] - then[topic], 0) / took_s for topic in now} for now, then in pairs
        )
        return received, sent


def add_to(commands: Commands) -> None:
    """Add the command."""
    commands.command("top", help_text=TOP_HELP)(top)


def top(
    session: Session, once: Once = False, interval: Interval = 2.0, namespace: Only = None, limit: Limit = 40
) -> None:
    """Show live which topics are busy and which subscriptions lag."""
    with suppress(KeyboardInterrupt):
        before = _counts(session.call)
        while True:
            time.sleep(interval)
            now = _counts(session.call)
            names = _topics(session.call, namespace)
            received, sent = now.rates_since(before)
            names.sort(key=lambda name: (-received.get(name, 0) - sent.get(name, 0), name))
            described = {
                topic.topic: topic for name in names[:TOPICS_MAX] for topic in _described(session.call, name)
            }
            rows = rows_of(described.values(), received, sent, counted=now.complete and before.complete)
            _show(session.form, rows, len(names), limit)
            if once:
                return
            before = now


def rows_of(
    described: Iterable[platform.TopicDescription],
    received: Mapping[str, float],
    sent: Mapping[str, float],
    *,
    counted: bool,
) -> list[Row]:
    """Return the lines, the largest lag first."""
    rows = []
    for topic in described:
        rates = (
            round(received.get(topic.topic, 0.0), 1) if counted else None,
            round(sent.get(topic.topic, 0.0), 1) if counted else None,
        )
        if not topic.subscriptions:
            rows.append(Row(topic.topic, *rates, note=topic.owner_problem))
        for one in topic.subscriptions:
            note = one.blocked or (f"{one.failed} failed" if one.failed else "")
            rows.append(
                Row(
                    *(topic.topic, *rates, one.name, one.type),
                    consumers=len(one.consumers),
                    backlog=one.backlog,
                    unacked=one.unacked,
                    note=note,
                )
            )
    return sorted(
        rows,
        key=lambda row: (
            -row.backlog,
            -(row.in_per_s or 0) - (row.out_per_s or 0),
            row.topic,
            row.subscription,
        ),
    )


def counts_of(texts: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """Return how many messages the metrics of gateways count, in and out, by topic."""
    received: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for text in texts:
        for name, topic, value in _SAMPLE.findall(text):
            (received if name == "topic_msg_in" else sent)[topic] += int(float(value))
    return received, sent


def _counts(call: Call) -> Counts:
    urls = [one.http_url for one in instances(call) if one.kind == "gateway"]
    texts = [text for url in urls if (text := metrics_text(url)) is not None]
    received, sent = counts_of(texts)
    return Counts(time.monotonic(), received, sent, complete=len(texts) == len(urls))


def _topics(call: Call, namespace: str | None) -> list[str]:
    namespaces: Sequence[str] = [namespace] if namespace else []
    if not namespace:
        listed = call("/danube_admin.BrokerAdmin/ListNamespaces", admin.Empty(), admin.NamespaceListResponse)
        namespaces = listed.namespaces
    method = "/danube_admin.NamespaceAdmin/GetNamespaceTopics"
    # A namespace may be deleted meanwhile.
    answers = (
        call(method, admin.NamespaceRequest(name=one), admin.TopicListResponse, missing=not namespace)
        for one in namespaces
    )
    return [topic for answer in answers for topic in answer.topics]


def _described(call: Call, topic: str) -> Sequence[platform.TopicDescription]:
    method = "/danube_platform.TopicDetails/DescribeTopic"
    # A topic may be deleted meanwhile.
    answer = call(
        method, platform.DescribeTopicRequest(topic=topic), platform.DescribeTopicResponse, missing=True
    )
    return answer.topics


def _show(form: Form, rows: Sequence[Row], topics: int, limit: int) -> None:
    if form is Form.json:
        show_json({"topics": topics, "rows": [asdict(row) for row in rows[:limit]]})
        return
    if sys.stdout.isatty():
        show_text(CLEAR)
        limit = min(limit, max(shutil.get_terminal_size().lines - LINES_AROUND, 1))
    lag = sum(row.backlog for row in rows)
    show_text(f"{topics} topics, {len(rows)} lines, {lag} messages behind")
    shown = [
        {field: "-" if value is None else str(value) for field, value in asdict(row).items()}
        for row in rows[:limit]
    ]
    show_table(form, COLUMNS, shown)
