"""The figures of runs as text. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def text_of(figures: dict[str, Any]) -> str:
    """Return one run for people."""
    return "\n".join(_lines(figures))


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    yield _headline(figures)
    if publish := figures.get("publish"):
        yield f"durability  {figures['durability']}"
        yield f"publish     {_rate(publish)}"
        yield f"  latency   {_latency(publish['latency_us'])}"
        if publish["behind_ms"]:
            yield f"  schedule  at most {publish['behind_ms']:.1f} ms late, which the latency contains"
        for reason, count in publish["refusals"].items():
            yield f"  refused   {count}: {reason}"
    if consume := figures.get("consume"):
        yield f"consume     {_rate(consume)}"
        yield f"  latency   {_latency(consume['end_to_end_us'])}  (end to end)"
        yield f"  ack       {_latency(consume['ack_us'])}  ({consume['acks_per_s']:.0f} acks/s)"
        for reason, count in consume["failed_acks"].items():
            yield f"  ack failed {count}: {reason}"
    if integrity := figures.get("integrity"):
        yield integrity_line(integrity)
    for name, usage in figures["processes"].items():
        yield f"{name:<12}{_usage(usage)}"
    if figures["client_cpu_us_per_message"] is not None:
        yield f"{'danube-perf':<12}{figures['client_cpu_us_per_message']:.1f} µs of CPU a message"
    if figures["error"]:
        yield f"ended early: {figures['error']}"
    if figures["interrupted"]:
        yield "interrupted: these are the results so far"


def integrity_line(integrity: dict[str, Any]) -> str:
    """Return what was lost, repeated or out of order."""
    parts = [f"{integrity[what]} {what}" for what in ("lost", "duplicated", "reordered")]
    if integrity["sent"] is not None:
        parts.append(f"of {integrity['sent']} sent, {integrity['received']} received")
    else:
        parts.append(f"of {integrity['received']} received")
    if integrity["foreign"]:
        parts.append(f"{integrity['foreign']} not of this run")
    return "integrity   " + ", ".join(parts)


def table_of(varied: str, runs: list[dict[str, Any]]) -> str:
    """Return several runs that differ in one figure, each beside the first one.

    Args:
        varied: the name of the figure, ``subscriptions`` or ``topics``.
        runs: their figures, in order.
    """
    names = list(runs[0]["processes"])
    head = f"{varied:>13}{'published/s':>13}{'received/s':>12}{'x first':>9}{'p50 ms':>9}{'p99 ms':>9}"
    lines = [head + "".join(f"{name + ' µs':>16}" for name in names) + f"{'lost/dup/reord':>18}"]
    first = _delivered(runs[0])
    for run in runs:
        latency = run["consume"]["end_to_end_us"] if "consume" in run else run["publish"]["latency_us"]
        ratio = _delivered(run) / first if first else 0.0
        integrity = run.get("integrity", {"lost": "-", "duplicated": "-", "reordered": "-"})
        received = run.get("consume", {}).get("per_s", 0.0)
        line = f"{run[varied]:>13}{run['publish']['per_s']:>13.0f}{received:>12.0f}{ratio:>9.2f}"
        line += f"{latency.get('p50', 0) / 1000:>9.2f}{latency.get('p99', 0) / 1000:>9.2f}"
        for name in names:
            cost = run["processes"][name]["cpu_us_per_message"]
            line += f"{'-' if cost is None else f'{cost:.1f}':>16}"
        found = f"{integrity['lost']}/{integrity['duplicated']}/{integrity['reordered']}"
        lines.append(line + f"{found:>18}")
    lines.append(f"durability: {runs[0]['durability']}; µs: CPU of a process for each message published")
    return "\n".join(lines)


def _delivered(run: dict[str, Any]) -> float:
    return float(run["consume" if "consume" in run else "publish"]["per_s"])


def _headline(figures: dict[str, Any]) -> str:
    parts = [f"{figures['size_bytes']} bytes"] if "publish" in figures else []
    counted = ("topics", "producers", "subscriptions", "consumers")
    parts += [
        f"{figures[what]} {what if figures[what] > 1 else what.removesuffix('s')}"
        for what in counted
        if figures[what]
    ]
    if figures["producers"]:
        parts.append(f"{figures['in_flight']} in flight each")
        parts.append(f"{figures['rate']:g} msg/s asked for" if figures["rate"] else "flat out")
    return ", ".join(parts)


def _rate(figures: dict[str, Any]) -> str:
    return (
        f"{figures['per_s']:.0f} msg/s, {figures['mib_per_s']:.2f} MiB/s:"
        f" {figures['messages']} messages in {figures['seconds']:.2f} s"
    )


def _latency(summary: dict[str, float]) -> str:
    if not summary["count"]:
        return "none measured"
    names = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
    return " ".join(f"{name} {summary[name] / 1000:.2f}" for name in names) + " ms"


def _usage(usage: dict[str, Any]) -> str:
    if usage["gone"]:
        return "ended while it was measured"
    cost = usage["cpu_us_per_message"]
    cpu = "no message" if cost is None else f"{cost:.1f} µs of CPU a message"
    return (
        f"{cpu}, memory {usage['first_mib']} MiB at first, {usage['last_mib']} last, {usage['most_mib']} most"
    )
