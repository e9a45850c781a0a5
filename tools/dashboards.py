"""Write the Grafana dashboards of ``deploy/grafana/dashboards``: run it after changing the tables below.

A dashboard is rows of panels; a panel is a title, a unit, and queries with their legends. Grafana's JSON
repeats each of these with its place and settings, so it is written from here, and a test compares.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "danube-prometheus"}
"""As `provisioning/datasources.yml` names it."""
COLUMNS: Final = 24
HEIGHT: Final = 8
STAT_HEIGHT: Final = 4


@dataclass(frozen=True)
class Panel:
    """One picture. `queries` are pairs of an expression and the legend of its lines.

    `stat` shows the last value large instead of a line.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    text: str = ""
    stat: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One page. `variables` are pairs of a name and the query of its values."""

    name: str
    title: str
    rows: tuple[tuple[Panel, ...], ...]
    variables: tuple[tuple[str, str], ...] = field(default=())


def number(title: str, expression: str, unit: str = "short", text: str = "") -> Panel:
    """One value, shown large."""
    return Panel(title, unit, ((expression, ""),), text, stat=True)


def lines(title: str, unit: str, *queries: tuple[str, str], text: str = "") -> Panel:
    """Values over time."""
    return Panel(title, unit, queries, text)


def slowest(histogram: str) -> str:
    """The seconds that one of a hundred takes longer than, by instance."""
    return f"histogram_quantile(0.99, sum by (instance, le) (rate({histogram}_bucket[5m])))"


TOPIC: Final = 'topic=~"$topic"'
FULLNESS: Final = "danube_cluster_stream_bytes / danube_cluster_stream_bytes_max"
JOURNALS: Final = 'danube_cluster_stream_bytes{stream="DANUBE_JOURNAL"}'
CPU_BY_SERVICE: Final = (
    "sum by (service) (rate(process_cpu_seconds_total[1m])"
    " * on (instance, job) group_left (service) danube_instance)"
)

DASHBOARDS: Final = (
    Dashboard(
        "overview",
        "Danube: overview",
        (
            (
                number("Messages in", "danube:messages_in:rate1m", "cps"),
                number("Messages out", "danube:messages_out:rate1m", "cps"),
                number("Topics", "sum(danube_broker_topics)"),
                number("Largest backlog", "max(danube:subscription_lag_messages:max)"),
                number("Oldest unacknowledged", "max(danube_subscription_oldest_unacked_age_seconds)", "s"),
                number("Leaders", "sum(danube_admin_leading)", text="One admin instance leads."),
            ),
            (
                lines("Instances", "short", ("danube:instances:count", "{{service}}")),
                lines(
                    "Messages",
                    "cps",
                    ("danube:messages_in:rate1m", "in"),
                    ("danube:messages_out:rate1m", "out"),
                ),
                lines("Bytes", "Bps", ("danube:bytes_in:rate1m", "in"), ("danube:bytes_out:rate1m", "out")),
            ),
            (
                lines(
                    "Ten largest backlogs",
                    "short",
                    ("topk(10, danube:subscription_lag_messages:max)", "{{topic}} {{subscription}}"),
                ),
                lines(
                    "Ten oldest backlogs",
                    "s",
                    (
                        "topk(10, danube_subscription_oldest_unacked_age_seconds)",
                        "{{topic}} {{subscription}}",
                    ),
                ),
            ),
            (
                lines(
                    "Publishing: time to the answer",
                    "s",
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(danube_publish_seconds_bucket[5m])))",
                        "half",
                    ),
                    ("danube:publish_seconds:p99", "99 of 100"),
                ),
                lines(
                    "Publishing refused",
                    "cps",
                    ("sum by (reason) (rate(danube_publish_failures_total[5m]))", "{{reason}}"),
                ),
                lines(
                    "Processor seconds a second",
                    "short",
                    (CPU_BY_SERVICE, "{{service}}"),
                ),
            ),
            (
                lines(
                    "Alerts", "short", ('sum by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}")
                ),
            ),
        ),
    ),
    Dashboard(
        "topic",
        "Danube: topic",
        (
            (
                lines(
                    "Messages in",
                    "cps",
                    (f"sum by (topic) (rate(danube_topic_msg_in_counter{{{TOPIC}}}[1m]))", "{{topic}}"),
                ),
                lines(
                    "Messages out",
                    "cps",
                    (f"sum by (topic) (rate(danube_consumer_msg_out_counter{{{TOPIC}}}[1m]))", "{{topic}}"),
                ),
            ),
            (
                lines(
                    "Backlog",
                    "short",
                    (f"danube_subscription_lag_messages{{{TOPIC}}}", "{{topic}} {{subscription}}"),
                ),
                lines(
                    "Age of the oldest unacknowledged message",
                    "s",
                    (
                        f"danube_subscription_oldest_unacked_age_seconds{{{TOPIC}}}",
                        "{{topic}} {{subscription}}",
                    ),
                ),
            ),
            (
                lines(
                    "Delivered and not acknowledged",
                    "short",
                    (f"danube_subscription_unacked_messages{{{TOPIC}}}", "{{topic}} {{subscription}}"),
                ),
                lines(
                    "Producers and consumers",
                    "short",
                    (f"sum by (topic) (danube_topic_active_producers{{{TOPIC}}})", "producers of {{topic}}"),
                    (f"sum by (topic) (danube_topic_active_consumers{{{TOPIC}}})", "consumers of {{topic}}"),
                ),
            ),
            (
                lines(
                    "Failed deliveries",
                    "cps",
                    (
                        f"sum by (subscription) (rate(danube_subscription_nack_total{{{TOPIC}}}[5m]))",
                        "nack {{subscription}}",
                    ),
                    (
                        f"sum by (subscription) (rate(danube_subscription_ack_timeout_total{{{TOPIC}}}[5m]))",
                        "not in time {{subscription}}",
                    ),
                    (
                        f"sum by (subscription) (rate(danube_subscription_dlq_total{{{TOPIC}}}[5m]))",
                        "dead letter {{subscription}}",
                    ),
                ),
                lines(
                    "Wait to be delivered again",
                    "short",
                    (f"danube_subscription_pending_redelivery{{{TOPIC}}}", "{{topic}} {{subscription}}"),
                    (f"danube_subscription_terminal_blocked{{{TOPIC}}}", "blocked {{subscription}}"),
                ),
            ),
        ),
        variables=(("topic", "label_values(danube_topic_msg_in_counter, topic)"),),
    ),
    Dashboard(
        "gateway",
        "Danube: gateway",
        (
            (
                lines(
                    "Consumer streams",
                    "short",
                    ("sum by (instance) (danube_gateway_sessions)", "{{instance}}"),
                ),
                lines(
                    "Publishing: time to the answer of 99 of 100",
                    "s",
                    (
                        slowest("danube_publish_seconds"),
                        "{{instance}}",
                    ),
                ),
            ),
            (
                lines(
                    "Acknowledgements that the owner has not confirmed",
                    "short",
                    ("danube_gateway_unconfirmed_acks", "{{instance}} {{bundle}}"),
                    text="Near 5 000 clients wait for the owner.",
                ),
                lines(
                    "Deliveries asked for again",
                    "cps",
                    ("sum by (instance) (rate(danube_gateway_delivery_gaps_total[5m]))", "{{instance}}"),
                ),
            ),
            (
                lines(
                    "Calls refused",
                    "cps",
                    ("sum by (reason) (rate(danube_auth_refusals_total[5m]))", "{{reason}}"),
                ),
                lines(
                    "Memory",
                    "bytes",
                    ('process_resident_memory_bytes{job="danube"}', "{{instance}}"),
                ),
            ),
        ),
    ),
    Dashboard(
        "storage",
        "Danube: storage",
        (
            (
                number("Segments quarantined", "max(danube_storage_quarantined_segments)"),
                number("Segments lost", "sum(max by (bundle) (danube_storage_lost_segments))"),
                number(
                    "Segments with too few copies", "sum(max by (bundle) (danube_storage_short_segments))"
                ),
                number("Subscriptions that wait", "sum(danube_subscriptions_waiting_for_archive)"),
            ),
            (
                lines(
                    "Only in the log yet",
                    "bytes",
                    ("sum by (bundle) (danube_storage_lag_bytes)", "{{bundle}}"),
                ),
                lines("Age of the oldest of it", "s", ("danube_storage_lag_seconds", "{{bundle}}")),
            ),
            (
                lines(
                    "Archived",
                    "Bps",
                    ("sum by (backend) (rate(danube_storage_segment_bytes_total[5m]))", "{{backend}}"),
                ),
                lines(
                    "Read from the store, sent to readers",
                    "Bps",
                    ("sum by (backend) (rate(danube_storage_read_bytes_total[5m]))", "read {{backend}}"),
                    ("sum(rate(danube_storage_served_bytes_total[5m]))", "sent"),
                ),
            ),
            (
                lines(
                    "Deleted by retention",
                    "Bps",
                    ("sum by (backend) (rate(danube_retention_deleted_bytes_total[5m]))", "{{backend}}"),
                ),
                lines(
                    "Retried",
                    "cps",
                    ("sum by (reason) (rate(danube_storage_retries_total[5m]))", "archive {{reason}}"),
                    ("sum by (reason) (rate(danube_retention_retries_total[5m]))", "retention {{reason}}"),
                ),
            ),
        ),
    ),
    Dashboard(
        "nats",
        "Danube: NATS",
        (
            (
                number(
                    "Fullest log",
                    f"max({FULLNESS} unless {JOURNALS})",
                    "percentunit",
                    text="At its bound publishing is refused.",
                ),
                number(
                    "Journals",
                    f"max({FULLNESS} and {JOURNALS})",
                    "percentunit",
                    text="At the bound cursors are not kept.",
                ),
                number("Replicas away or behind", "sum(danube_cluster_stream_replicas_away)"),
                number("Bundles without an owner", "max(danube_cluster_unowned_bundles)"),
            ),
            (
                lines("What the streams have", "bytes", ("danube_cluster_stream_bytes", "{{stream}}")),
                lines("What they may have", "bytes", ("danube_cluster_stream_bytes_max", "{{stream}}")),
            ),
            (
                lines(
                    "Replicas away or behind",
                    "short",
                    ("danube_cluster_stream_replicas_away", "{{stream}}"),
                ),
                lines(
                    "Journal writes refused",
                    "cps",
                    ("sum by (broker) (rate(danube_journal_fenced_total[5m]))", "{{broker}}"),
                ),
            ),
        ),
    ),
    Dashboard(
        "metadata",
        "Danube: metadata (etcd)",
        (
            (
                number("Members with a leader", "sum(etcd_server_has_leader)"),
                number(
                    "Changes of the leader in an hour",
                    "max(increase(etcd_server_leader_changes_seen_total[1h]))",
                ),
                number("Data", "max(etcd_mvcc_db_total_size_in_bytes)", "bytes"),
            ),
            (
                lines(
                    "Sync of the write-ahead log, 99 of 100",
                    "s",
                    (
                        slowest("etcd_disk_wal_fsync_duration_seconds"),
                        "{{instance}}",
                    ),
                ),
                lines(
                    "Proposals",
                    "cps",
                    (
                        "sum by (instance) (rate(etcd_server_proposals_committed_total[1m]))",
                        "committed {{instance}}",
                    ),
                    (
                        "sum by (instance) (rate(etcd_server_proposals_failed_total[1m]))",
                        "failed {{instance}}",
                    ),
                ),
            ),
        ),
    ),
)


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _panels(rows: tuple[tuple[Panel, ...], ...]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        height = STAT_HEIGHT if all(panel.stat for panel in row) else HEIGHT
        width = COLUMNS // len(row)
        for at, panel in enumerate(row):
            place = {"x": at * width, "y": top, "w": width, "h": height}
            panels.append(_panel(panel, len(panels) + 1, place))
        top += height
    return panels


def rendered(dashboard: Dashboard) -> str:
    """Return the dashboard as Grafana reads it."""
    page = {
        "uid": f"danube-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["danube"],
        "editable": True,
        "refresh": "10s",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": name,
                    "label": name,
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": query, "refId": "values"},
                    "refresh": 2,
                    "sort": 1,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                }
                for name, query in dashboard.variables
            ]
        },
        "panels": _panels(dashboard.rows),
    }
    return json.dumps(page, indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for one in DASHBOARDS:
        (FOLDER / f"{one.name}.json").write_text(rendered(one))
