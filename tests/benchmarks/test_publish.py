from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform as machine
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import nats
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig
from tests.benchmarks import echo_server
from tests.benchmarks.wire import DURABILITY, OPTIONS, PAYLOAD, PAYLOAD_BYTES, STRATEGIES, Route, Sender

from danube_harness.platforms.standalone import Platform

ROUNDS = 5
LATENCIES_PER_ROUND = 100
RATE_ROUND_S = 1.0
IN_FLIGHT = (1, 64)
BASE = "echo"
JETSTREAM = "JetStream publish"
REPORT = Path("reports/benchmark.json")
RATIO_MIN = 0.2
"""Every rate is at least this part of the echo's; on a quiet machine all are above 0.4."""

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(300)]


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Sender]:
    """The echo in its own process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, echo_server.__file__, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            yield Sender(channel)
    finally:
        process.kill()
        await process.wait()


class JetStream:
    """One durable publish to the same server, without the platform."""

    def __init__(self, client: Client) -> None:
        self._context = client.jetstream()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[JetStream]:
        client = await nats.connect(url)
        jetstream = cls(client)
        await jetstream._context.add_stream(StreamConfig(name="bench", subjects=["bench"]))
        try:
            yield jetstream
        finally:
            await jetstream._context.delete_stream("bench")
            await client.close()

    async def latencies(self, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            await self._context.publish("bench", PAYLOAD)
            taken.append(time.perf_counter() - began)
        return taken


def milliseconds(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": round(cuts[49] * 1000, 3), "p99_ms": round(cuts[98] * 1000, 3), "samples": len(seconds)}


async def latency(routes: dict[str, Route], bare: Sender, jetstream: JetStream) -> dict[str, list[float]]:
    """Rounds in turn, so that what drifts, drifts for all; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in (BASE, JETSTREAM, *routes)}
    for number in range(ROUNDS + 1):
        results = {BASE: await bare.latencies(LATENCIES_PER_ROUND)}
        results[JETSTREAM] = await jetstream.latencies(LATENCIES_PER_ROUND)
        for name, route in routes.items():
            results[name] = await route.deliveries(LATENCIES_PER_ROUND)
        if number:
            for name, seconds in results.items():
                taken[name] += seconds
    return taken


async def rates(routes: dict[str, Route], bare: Sender, in_flight: int) -> dict[str, dict[str, float]]:
    """Messages per second as medians over the rounds; each ratio is of one round and the echo beside it."""
    senders: dict[str, Sender] = {BASE: bare, **routes}
    taken: dict[str, list[float]] = {name: [] for name in senders}
    for _ in range(ROUNDS):
        for name, sender in senders.items():
            taken[name].append(await sender.rate(in_flight, RATE_ROUND_S))
    return {
        name: {
            "per_s": round(statistics.median(found)),
            "ratio": round(statistics.median(a / b for a, b in zip(found, taken[BASE], strict=True)), 3),
        }
        for name, found in taken.items()
    }


def test_publishing_measured_beside_a_bare_echo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Platform.run(tmp_path / "platform") as running:
        report = asyncio.run(measure(running))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    with capsys.disabled():
        print(f"\n{table(report)}\nwritten to {REPORT}")
    for rates_of in report["publish_rate"].values():
        assert min(row["ratio"] for row in rates_of.values()) > RATIO_MIN


async def measure(running: Platform) -> dict[str, Any]:
    async with (
        echo() as bare,
        grpc.aio.insecure_channel(running.gateway_addr, options=OPTIONS) as channel,
        JetStream.open(running.nats_url) as jetstream,
    ):
        routes = {
            name: await Route.open(channel, f"/default/latency-{number}", name)
            for number, name in enumerate(STRATEGIES)
        }
        for route in routes.values():
            await route.subscribe()
        taken = await latency(routes, bare, jetstream)
        for route in routes.values():
            route.close()
        # Without subscriptions: a rate of publishing, not of dispatching.
        routes = {
            name: await Route.open(channel, f"/default/rate-{number}", name)
            for number, name in enumerate(STRATEGIES)
        }
        published = {str(count): await rates(routes, bare, count) for count in IN_FLIGHT}
    echo_p50, durable_p50 = statistics.median(taken[BASE]), statistics.median(taken[JETSTREAM])
    return {
        "payload_bytes": PAYLOAD_BYTES,
        "cores": os.cpu_count(),
        "python": machine.python_version(),
        "grpc": grpc.__version__,
        "durability": DURABILITY,
        "publish_to_receive": {
            name: {
                **milliseconds(seconds),
                "ratio": round(statistics.median(seconds) / echo_p50, 2),
                "ratio_to_jetstream": round(statistics.median(seconds) / durable_p50, 2),
            }
            for name, seconds in taken.items()
        },
        "publish_rate": published,
    }


def table(report: dict[str, Any]) -> str:
    """For people."""
    lines = [
        (
            f"{report['payload_bytes']} bytes, {report['cores']} cores, Python {report['python']}, "
            f"grpcio {report['grpc']}; medians, ratios to the bare echo of the same run"
        ),
        "",
        f"{'publish to receive':<20}{'p50 ms':>9}{'p99 ms':>9}{'x echo':>9}{'x JetStream':>13}",
    ]
    lines += [
        f"{name:<20}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['ratio']:>9.2f}{row['ratio_to_jetstream']:>13.2f}"
        for name, row in report["publish_to_receive"].items()
    ]
    for in_flight, rows in report["publish_rate"].items():
        lines += ["", f"{f'publish, {in_flight} in flight':<20}{'per s':>9}{'x echo':>9}"]
        lines += [f"{name:<20}{row['per_s']:>9}{row['ratio']:>9.2f}" for name, row in rows.items()]
    lines += ["", *(f"{name}: {what}" for name, what in report["durability"].items())]
    return "\n".join(lines)
