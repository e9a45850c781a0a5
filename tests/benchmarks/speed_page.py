"""Tables of a run of `make bench`, and their place in docs/performance.md.

``python -m tests.benchmarks.speed_page`` (`make bench-page`) puts the last tables and plots into the page.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.targets import TARGETS, Found

from danube_perf.plan import DURABILITY

REPORTS = Path("reports")
REPORT = REPORTS / "speed.json"
COMPARISON = REPORTS / "compare.json"
PEERS = REPORTS / "peers.json"
PAGE = Path("docs/performance.md")
IMAGES = Path("docs/images")
BEGIN, END = "<!-- make bench-page: begin -->", "<!-- make bench-page: end -->"
STORAGES = {"non-reliable": "none", "memory": "memory", "disk": "disk"}


def median_of(rounds: Sequence[Found], name: str) -> float | None:
    """Return the median of a figure over the rounds that have it."""
    found = [one[name] for one in rounds if name in one]
    return statistics.median(found) if found else None


def page(
    report: Mapping[str, Any], comparison: Mapping[str, Any] | None, peers: Mapping[str, Any] | None
) -> str:
    """Return everything as Markdown."""
    rounds: Sequence[Found] = report["rounds"]
    parts = [
        machine_line(report),
        targets_table(rounds, comparison),
        publish_table(rounds),
        *(consume_table(rounds),),
    ]
    if peers is not None:
        parts.append(peers_table(peers))
    return "\n\n".join(parts) + "\n"


def machine_line(report: Mapping[str, Any]) -> str:
    """Return what the figures depend on."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"{machine['cores']} cores, load {machine['load_1_min']} before the run; {versions}. 1 KiB; client,"
        " services and NATS on the same machine; `sync_interval: always`; medians of"
        f" {len(report['rounds'])} rounds, ratios within a round."
    )


def targets_table(rounds: Sequence[Found], comparison: Mapping[str, Any] | None) -> str:
    """Return each row of what must be reached, with its figure."""
    against = comparison["against"] if comparison is not None else "the last `grpc.aio` version"
    everything = [*rounds, *(comparison["rounds"] if comparison is not None else ())]
    lines = ["| figure | asked for | found | reached |", "|---|---|---|---|"]
    for target in TARGETS:
        figure = target.of(everything)
        sign = "≥" if target.least else "≤"
        asked = f"{sign} {shown(target.bound)}{target.unit}"
        name = target.name.format(against=against)
        if figure is None:
            lines.append(f"| {name} | {asked} | not measured | |")
        else:
            reached = "yes" if target.reached(figure) else "**no**"
            lines.append(f"| {name} | {asked} | {shown(figure)}{target.unit} | {reached} |")
    return "\n".join(lines)


def publish_table(rounds: Sequence[Found]) -> str:
    """Return rates and latencies of publishing, and what a message costs each process."""
    lines = [
        "| publish | durability | in flight | msg/s | of empty | p50 ms | CPU µs: gateway / owner / NATS |",
        "|---|---|---|---|---|---|---|",
    ]
    for in_flight in (1, 64):
        for name in ("empty", "non-reliable", "memory", "disk"):
            prefix = f"publish.{name}.{in_flight}"
            per_s = median_of(rounds, f"{prefix}.per_s")
            if per_s is None:
                continue
            over = f"publish.empty.{in_flight}.per_s"
            part = statistics.median(one[f"{prefix}.per_s"] / one[over] for one in rounds if over in one)
            p50_ms = (median_of(rounds, f"{prefix}.p50_us") or 0.0) / 1000
            costs = [median_of(rounds, f"{prefix}.{kind}_us") for kind in ("gateway", "topic-owner", "nats")]
            cpu = " / ".join("?" if one is None else f"{one:.0f}" for one in costs)
            label = "empty handler, same front" if name == "empty" else name
            kept = "nothing is kept" if name == "empty" else DURABILITY[STORAGES[name]]
            lines.append(
                f"| {label} | {kept} | {in_flight} | {shown(per_s)} | {part:.2f} | {p50_ms:.2f} | {cpu} |"
            )
    jetstream = [median_of(rounds, f"jetstream.{name}_per_s") for name in ("awaited", "in_flight")]
    p50_us = median_of(rounds, "jetstream.awaited_p50_us")
    if jetstream[0] and jetstream[1] and p50_us:
        kept = "synced to disk when it is answered"
        lines.append(
            f"| bare JetStream, nats-py | {kept} | 1 | {shown(jetstream[0])} | | {p50_us / 1000:.2f} | |"
        )
        lines.append(f"| bare JetStream, nats-py | {kept} | 64 | {shown(jetstream[1])} | | | |")
    return "\n".join(lines)


def consume_table(rounds: Sequence[Found]) -> str:
    """Return rates of consuming and end to end latencies."""
    rows = [
        ("disk, a backlog, 256 acks in flight, msg/s", "consume.256.per_s", 1.0),
        ("disk, a backlog, one ack at a time, msg/s", "consume.1.per_s", 1.0),
        ("bare JetStream, pulled and acknowledged, msg/s", "jetstream.consume_per_s", 1.0),
        ("end to end p50, one at a time, non-reliable, ms", "e2e.non-reliable.p50_us", 1000.0),
        ("end to end p50, one at a time, memory, ms", "e2e.memory.p50_us", 1000.0),
        ("end to end p50, one at a time, disk, ms", "e2e.disk.p50_us", 1000.0),
        ("unary echo of 1 KiB p50, ms", "publish.echo.1.p50_us", 1000.0),
        ("fan-out, 1 subscription, deliveries/s", "fanout.1.per_s", 1.0),
        ("fan-out, 10 subscriptions, deliveries/s", "fanout.10.per_s", 1.0),
        ("official Rust client, 32 producers, non-reliable, msg/s", "rust.non-reliable.32.per_s", 1.0),
        ("official Rust client, 32 producers, disk, msg/s", "rust.disk.32.per_s", 1.0),
        ("official Rust client, disk, consumed with awaited acks, msg/s", "rust.consume.per_s", 1.0),
    ]
    lines = ["| consume | |", "|---|---|"]
    for label, name, divisor in rows:
        if (figure := median_of(rounds, name)) is not None:
            lines.append(f"| {label} | {shown(figure / divisor)} |")
    return "\n".join([*lines, "", *faults(rounds)])


def faults(rounds: Sequence[Found]) -> Iterator[str]:
    """Return how many messages of all rounds were lost, repeated or out of order."""
    names = dict.fromkeys(name for one in rounds for name in one if name.endswith(".faults"))
    found = {name: sum(one.get(name, 0.0) for one in rounds) for name in names}
    bad = {name: count for name, count in found.items() if count}
    told = "; ".join(f"{name.removesuffix('.faults')}: {count:.0f}" for name, count in bad.items())
    yield f"Lost, repeated or out of order in all rounds: {told or 'none'}."


def peers_table(peers: Mapping[str, Any]) -> str:
    """Return what other systems do on the same machine."""
    lines = ["| peer, 1 KiB | durability | awaited, msg/s | many in flight, msg/s | consume and ack, msg/s |"]
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {peer['name']} | {peer['durability']} | {shown(peer['awaited_per_s'])}"
        f" | {shown(peer['in_flight_per_s'])} | {shown(peer['consume_per_s'])} |"
        for peer in peers["peers"]
    ]
    return "\n".join(lines)


def shown(figure: float) -> str:
    """Return a figure with three digits, or whole with spaces from a thousand on."""
    return f"{figure:,.0f}".replace(",", " ") if abs(figure) >= 999.5 else f"{figure:.3g}"


def read(path: Path) -> Any:
    """Return a report; None if it was not made."""
    return json.loads(path.read_text()) if path.exists() else None


def refreshed(text: str, tables: str) -> str:
    """Return the page with new tables between its marks. Raises ValueError if it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def main() -> int:
    """Refresh the page."""
    report = read(REPORT)
    if report is None:
        print(f"there is no {REPORT}: run `make bench` first", file=sys.stderr)
        return 1
    tables = page(report, read(COMPARISON), read(PEERS))
    plots = sorted(REPORTS.glob("speed-*.png"))
    if plots:
        IMAGES.mkdir(exist_ok=True)
    for plot in plots:
        shutil.copy(plot, IMAGES / plot.name)
        title = plot.stem.replace("-", " ")
        tables += f"\n![{title}](images/{plot.name})\n"
    PAGE.write_text(refreshed(PAGE.read_text(), tables))
    print(f"{PAGE} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
