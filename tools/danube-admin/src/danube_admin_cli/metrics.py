"""``danube-admin metrics``, and the metrics of instances for other commands."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import asdict, dataclass
from typing import Annotated, Final

import typer

from danube_admin_cli.admin import Call
from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import FAILED, USAGE, give_up
from danube_admin_cli.printing import show_table
from danube_proto import danube_platform_pb2 as platform

FETCH_TIMEOUT_S: Final = 3.0
SAMPLES_DEFAULT: Final = 200
SAMPLES_MAX: Final = 10_000
COLUMNS: Final = {
    "kind": "Service",
    "instance": "Instance",
    "name": "Name",
    "labels": "Labels",
    "value": "Value",
}
METRICS_HELP = """Show the metrics of all instances now, as each serves them at /metrics.

An instance that cannot be reached from here is named on stderr, and the exit code is 1.

\b
Examples:
  danube-admin metrics subscription_lag
  danube-admin metrics 'publish.*_total' --kind gateway -o json
  danube-admin metrics . --label /default/orders
"""
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)

Pattern = Annotated[str, typer.Argument(metavar="NAME", help="A part of the name, as a regular expression.")]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="Only of gateway, admin, topic-owner or storage."),
]
Label = Annotated[str | None, typer.Option("--label", metavar="TEXT", help="Only with this in the labels.")]
Limit = Annotated[
    int, typer.Option("--limit", "-n", min=1, max=SAMPLES_MAX, help="How many at most; the rest is counted.")
]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of an instance's metrics."""

    kind: str
    instance: str
    name: str
    labels: str
    value: str


def add_to(commands: Commands) -> None:
    """Add the command."""
    commands.command("metrics", help_text=METRICS_HELP)(metrics)


def metrics(
    session: Session,
    name: Pattern,
    kind: Kind = None,
    label: Label = None,
    limit: Limit = SAMPLES_DEFAULT,
) -> None:
    """Show the metrics of all instances now."""
    try:
        pattern = re.compile(name)
    except re.error as error:
        give_up(f"{name!r} is no regular expression: {error}", USAGE)
    found: list[Sample] = []
    away = []
    for one in instances(session.call):
        if kind and one.kind != kind:
            continue
        text = metrics_text(one.http_url)
        if text is None:
            away.append(f"{one.kind} {one.instance_id} at {one.http_url}")
            continue
        found += [
            Sample(one.kind, one.instance_id, metric, labels, value)
            for metric, labels, value in _SAMPLE.findall(text)
            if pattern.search(metric) and (not label or label in labels)
        ]
    show_table(session.form, COLUMNS, [asdict(one) for one in found[:limit]])
    if len(found) > limit:
        typer.echo(f"{len(found) - limit} more: ask for less, or for more with --limit", err=True)
    if away:
        give_up(f"not reached: {', '.join(away)}", FAILED)
    if not found:
        asked = f"{f' of {kind}' if kind else ''}{f' with {label!r} in its labels' if label else ''}"
        give_up(f"no metric{asked} is like {name!r} here; danube-admin metrics . shows all", FAILED)


def instances(call: Call) -> list[platform.Instance]:
    """Return what runs."""
    method = "/danube_platform.Instances/ListInstances"
    answer = call(method, platform.ListInstancesRequest(), platform.ListInstancesResponse)
    return list(answer.instances)


def metrics_text(http_url: str) -> str | None:
    """Return the metrics of an instance in Prometheus's text format; None if it does not answer."""
    try:
        with urllib.request.urlopen(f"{http_url.rstrip('/')}/metrics", timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310 - the admin service tells it
            text: bytes = answer.read()
    except (OSError, ValueError):
        return None
    return text.decode(errors="replace")
