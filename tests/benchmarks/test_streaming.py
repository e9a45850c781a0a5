"""Native streaming by the client library, beside nats-py in the same run. See `make bench-streaming`."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest
from tests.benchmarks.perf import pids_of, script
from tests.benchmarks.speed_page import REPORTS, shown
from tests.benchmarks.targets import Target, ratio, value

from danube_harness.platforms.standalone import Platform
from danube_perf.running import machine

ROUNDS = int(os.environ.get("DANUBE_BENCH_ROUNDS", "5"))
MESSAGES = int(os.environ.get("DANUBE_BENCH_MESSAGES", "200000"))
SECONDS = float(os.environ.get("DANUBE_BENCH_SECONDS", "3"))
FLIGHTS = 336_776
REPORT = REPORTS / "streaming.json"
RATIO_MIN = 0.1
"""The client is at least so fast beside nats-py on any machine."""

TARGETS = (
    Target(
        "one producer, batching: against frames of that size",
        "",
        ratio("produce.per_s", "bare.produce.per_s"),
        0.7,
    ),
    Target("the same", "", value("produce.per_s"), 60_000, unit=" msg/s"),
    Target("awaited sends: against nats-py", "", ratio("awaited.per_s", "bare.awaited.per_s"), 1.0),
    Target(
        "consume and acknowledge: against nats-py's pulls",
        "",
        ratio("consume.per_s", "bare.consume.per_s"),
        2.0,
    ),
    Target("the same", "", value("consume.per_s"), 60_000, unit=" msg/s"),
    Target("produced and consumed at once: against nats-py", "", ratio("both.per_s", "bare.both.per_s"), 0.5),
    Target(
        "CPU a consumed message: topic-owner", "", value("consume.topic-owner_us"), 6, least=False, unit=" µs"
    ),
    Target("CPU a consumed message: gateway", "", value("consume.gateway_us"), 8, least=False, unit=" µs"),
    Target(
        "danube-cli produce --file of 336 776 lines", "", value("cli.produce_s"), 8, least=False, unit=" s"
    ),
    Target("danube-cli consume of them", "", value("cli.consume_s"), 8, least=False, unit=" s"),
)

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]


def test_streaming_measured_beside_nats_py(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(
        "".join(f'{{"flight":{number},"carrier":"UA","delay":{number % 90}}}\n' for number in range(FLIGHTS))
    )
    rounds: list[dict[str, float]] = []
    with Platform.run(tmp_path / "platform") as platform:
        pids = {kind: found[0] for kind, found in pids_of(platform).items()}
        words = [f"{kind}={pid}" for kind, pid in pids.items()]
        for _ in range(ROUNDS):
            url = f"http://{platform.gateway_addr}"
            module = "tests.benchmarks.streaming_client"
            found = script(module, url, platform.nats_url, MESSAGES, SECONDS, *words)
            rounds.append(found | command_line(url, lines, len(rounds)))
    REPORTS.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({"machine": machine(), "rounds": rounds}, indent=2) + "\n")
    with capsys.disabled():
        print(f"\n\n{table(rounds)}\nwritten to {REPORT}")
    for found in rounds:
        assert found["produce.per_s"] > RATIO_MIN * found["bare.produce.per_s"]
        assert found["consume.per_s"] > RATIO_MIN * found["bare.consume.per_s"]


def command_line(url: str, lines: Path, number: int) -> dict[str, float]:
    """Seconds that the tool takes for a file."""
    program = Path(sysconfig.get_path("scripts")) / "danube-cli"
    topic = f"/default/flights_{number}"
    found = {}
    for name, words in (
        ("produce", ["produce", "-s", url, "-t", topic, "--file", str(lines)]),
        ("consume", ["consume", "-s", url, "-t", topic, "-m", "bench", "--exit-at-end"]),
    ):
        begun = time.perf_counter()
        subprocess.run([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        found[f"cli.{name}_s"] = time.perf_counter() - begun
    return found


def table(rounds: list[dict[str, float]]) -> str:
    """Return what was found of what is asked for, as a table of Markdown."""
    rows = ["| figure | asked for | found | reached |", "|---|---|---|---|"]
    for target in TARGETS:
        figure = target.of(rounds)
        sign = "≥" if target.least else "≤"
        if figure is not None:
            reached = "yes" if target.reached(figure) else "**no**"
            asked, got = (f"{shown(each)}{target.unit}" for each in (target.bound, figure))
            rows.append(f"| {target.name} | {sign} {asked} | {got} | {reached} |")
    return "\n".join(rows)
