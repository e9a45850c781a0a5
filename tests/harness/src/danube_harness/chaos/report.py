"""The report of a run, as text and as a page."""

from __future__ import annotations

import html

from danube_harness.chaos.outcome import Outcome

LAUNCHER_LINES_SHOWN_MAX = 400


def text(outcome: Outcome) -> str:
    """The whole report in lines."""
    sent = sum(writer.sent for writer in outcome.writers)
    acknowledged = sum(len(writer.acknowledged) for writer in outcome.writers)
    delivered = sum(len(reader.received) for one in outcome.subscriptions for reader in one.readers)
    took_s = max(0.001, outcome.healed - outcome.began)
    problems = outcome.problems()
    lines = [
        f"seed {outcome.seed}, {outcome.duration_s:g} s of faults, {len(outcome.struck)} of them",
        (
            f"sent {sent}, acknowledged {acknowledged}, "
            f"{acknowledged / took_s:.0f}/s; delivered {delivered}, "
            f"both together {(acknowledged + delivered) / took_s:.0f}/s; "
            f"caught up in {outcome.ended - outcome.healed:.1f} s"
        ),
        f"tier 2: {outcome.archived}",
        *([outcome.left_out] if outcome.left_out else []),
        "",
        "longest unavailability after each fault (publishing of one writer, delivery of one subscription)",
        *_silences(outcome),
        "",
        "subscriptions",
    ]
    for subscription, report in outcome.reports:
        lines.append(f"  {subscription.name}: {report.text()}")
    lines += [
        "",
        "out of order where an order is kept; of writers with several in flight by their own repeats",
    ]
    lines += [f"  {line}" for line in outcome.disorders()] or ["  none"]
    lines += ["", "errors that retries did not overcome"]
    lines += [f"  {count} x {what}" for what, count in outcome.errors.most_common()] or ["  none"]
    lines += ["", "broken guarantees"]
    lines += [f"  {problem}" for problem in problems] or ["  none"]
    return "\n".join(lines) + "\n"


def page(outcome: Outcome) -> str:
    """The same for a browser."""
    verdict = "broken" if outcome.problems() else "kept"
    rows = "".join(
        f"<tr><td>{one.struck.at - outcome.began:.1f}</td>"
        f"<td>{html.escape(f'{one.struck.strike.fault} {one.struck.strike.target}')}</td>"
        f"<td>{one.struck.strike.lasts_s:.1f}</td>"
        f"<td>{one.publishing_s:.2f}</td><td>{html.escape(one.writer)}</td>"
        f"<td>{one.delivery_s:.2f}</td><td>{html.escape(one.subscription)}</td></tr>"
        for one in outcome.silences
    )
    launcher = "\n".join(outcome.launcher[-LAUNCHER_LINES_SHOWN_MAX:])
    return (
        "<!doctype html><meta charset=utf-8><title>Chaos report</title>"
        "<style>body{font:14px sans-serif;margin:2em}td,th{padding:2px 8px;text-align:left}"
        "td:nth-child(1),td:nth-child(3),td:nth-child(4),td:nth-child(6){text-align:right}</style>"
        f"<h1>Seed {outcome.seed}: guarantees {verdict}</h1>"
        "<table><tr><th>at, s<th>fault<th>lasts, s<th>publishing silent, s<th>writer"
        f"<th>delivery silent, s<th>subscription</tr>{rows}</table>"
        f"<pre>{html.escape(text(outcome))}</pre><h2>Launcher</h2><pre>{html.escape(launcher)}</pre>"
    )


def _silences(outcome: Outcome) -> list[str]:
    return [
        (
            f"  {one.struck.at - outcome.began:6.1f} s  "
            f"{f'{one.struck.strike.fault} {one.struck.strike.target}':<36}"
            f"{one.struck.strike.lasts_s:5.1f} s  "
            f"publishing {one.publishing_s:5.2f} s ({one.writer}), "
            f"delivery {one.delivery_s:5.2f} s ({one.subscription})"
        )
        for one in outcome.silences
    ]
