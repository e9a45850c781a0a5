"""What must be reached: each row is one named figure of the scenarios, in one run. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Found = Mapping[str, float]
"""The figures of one round, or of the comparison with another version (`compare`), by name."""


@dataclass(frozen=True, slots=True)
class Target:
    """One row.

    Attributes:
        name: what it is about.
        source: the names of the figures.
        figure: computed of one round; a KeyError means that it was not measured.
        bound: what is asked for.
        least: whether the bound is the least, otherwise it is the most.
        unit: after the figure.
    """

    name: str
    source: str
    figure: Callable[[Found], float]
    bound: float
    least: bool = True
    unit: str = " times"

    def of(self, rounds: Sequence[Found]) -> float | None:
        """Return the median over the rounds; None if no round has it."""
        found = []
        for one in rounds:
            try:
                found.append(self.figure(one))
            except (KeyError, ZeroDivisionError):
                continue
        return statistics.median(found) if found else None

    def reached(self, figure: float) -> bool:
        """Return whether a figure is what is asked for."""
        return figure >= self.bound if self.least else figure <= self.bound


def ratio(over: str, under: str) -> Callable[[Found], float]:
    """Return the quotient of two figures."""
    return lambda found: found[over] / found[under]


def value(name: str) -> Callable[[Found], float]:
    """Return a figure as it is."""
    return lambda found: found[name]


def _memory(found: Found) -> float:
    kinds = ("gateway", "topic-owner")
    return max(found[f"soak.{kind}.last_mib"] / found[f"soak.{kind}.first_mib"] for kind in kinds)


TARGETS: tuple[Target, ...] = (
    *(
        Target(
            f"SendMessage, {kind}, {in_flight} in flight, against {{against}}",
            f"compare.{kind}.{in_flight}",
            ratio(f"here.{kind}.{in_flight}.per_s", f"there.{kind}.{in_flight}.per_s"),
            bound,
        )
        for kind, in_flight, bound in (
            ("non-reliable", 64, 8.0),
            ("disk", 64, 4.5),
            ("non-reliable", 1, 1.6),
            ("disk", 1, 1.25),
        )
    ),
    Target(
        "official Rust client, 32 producers, non-reliable",
        "rust.non-reliable.32",
        value("rust.non-reliable.32.per_s"),
        18_000,
        unit=" msg/s",
    ),
    Target(
        "official Rust client, 32 producers, disk",
        "rust.disk.32",
        value("rust.disk.32.per_s"),
        12_000,
        unit=" msg/s",
    ),
    Target(
        "official Rust client, disk, consumed with awaited acks: rate against its producer's",
        "rust.consume",
        ratio("rust.consume.per_s", "rust.consume.publish_per_s"),
        0.95,
    ),
    Target(
        "the same: end to end p50 against the publish's p50",
        "rust.consume",
        ratio("rust.consume.e2e_p50_us", "rust.consume.publish_p50_us"),
        1.5,
        least=False,
    ),
    Target(
        "non-reliable, 64 in flight, against an empty handler behind the same front",
        "publish.non-reliable.64",
        ratio("publish.non-reliable.64.per_s", "publish.empty.64.per_s"),
        0.45,
    ),
    *(
        Target(
            f"consume and ack by the v0.2 contract, CPU a message: {kind}",
            "consume.256",
            value(f"consume.256.{kind}_us"),
            bound,
            least=False,
            unit=" µs",
        )
        for kind, bound in (("topic-owner", 20.0), ("gateway", 50.0), ("nats", 10.0))
    ),
    Target(
        "one ack at a time: rate against unary echo",
        "consume.1",
        ratio("consume.1.per_s", "publish.echo.1.per_s"),
        0.7,
    ),
    Target(
        "end to end p50, one at a time, disk, against a durable JetStream publish",
        "e2e.disk",
        ratio("e2e.disk.p50_us", "jetstream.awaited_p50_us"),
        2.2,
        least=False,
    ),
    Target(
        "end to end p50, one at a time, non-reliable, against a unary echo",
        "e2e.non-reliable",
        ratio("e2e.non-reliable.p50_us", "publish.echo.1.p50_us"),
        2.0,
        least=False,
    ),
    Target(
        "fan-out to 10 subscriptions: deliveries against one subscription",
        "fanout.10",
        ratio("fanout.10.per_s", "fanout.1.per_s"),
        4.0,
    ),
    Target(
        "an extra subscription, CPU a message",
        "fanout.extra_subscription",
        value("fanout.extra_subscription_us"),
        100.0,
        least=False,
        unit=" µs",
    ),
    Target(
        "CPU a message with 2 + 2 gateways and owners, against 1 + 1 (0.85 to 1.15)",
        "grown",
        lambda found: abs(found["grown.2.cpu_us"] / found["grown.1.cpu_us"] - 1) + 1,
        1.15,
        least=False,
    ),
    Target(
        "memory at the end of a long flat-out run, against its beginning (the worse of gateway and owner)",
        "soak",
        _memory,
        1.15,
        least=False,
    ),
)
