from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.acceptance.flights import FLIGHTS_TOTAL, lines, schema_text
from tests.acceptance.readers import ADMIN, CLI, Reader, Subscription, start, watch

from danube_harness.platforms.standalone import Platform
from danube_harness.traffic.history import check

CUT = 8_000
"""So many flights are part of every gate; all of them are published by ``make acceptance``."""

BOUND_S = 150.0
WHOLE_BOUND_S = 3600.0
"""How long it may take until all have arrived."""

CONNECT_S_MAX = 60.0
TOPIC = "/default/flights"
KILLS = ((0.20, "gateway"), (0.45, "topic-owner"), (0.70, "nats"))
"""At which part of the lines received which process is ended by SIGKILL."""


@dataclass(frozen=True, slots=True)
class Killed:
    """A process that was ended, and where the slowest subscription was then."""

    name: str
    received: int
    at: float


class Trouble:
    """Kills what `KILLS` says when its time has come."""

    def __init__(self, platform: Platform, total: int) -> None:
        self.killed: list[Killed] = []
        self._platform = platform
        self._left = [(int(part * total), name) for part, name in KILLS]

    def __call__(self, received: int) -> None:
        if self._left and received >= self._left[0][0]:
            _, name = self._left.pop(0)
            at = time.monotonic()
            self._platform.kill(name)
            self.killed.append(Killed(name, received, at))


def produce(platform: Platform, file: Path) -> list[str | Path]:
    """The command that publishes the lines of a file."""
    return [
        *(CLI, "produce", "-s", f"http://{platform.gateway_addr}", "-t", TOPIC, "-n", "flights"),
        *("--schema", "json", "--json-schema", schema_text(), "--reliable", "--storage", "disk"),
        *("--file", file),
    ]


def consume(platform: Platform, subscription: str, kind: str) -> list[str]:
    """The arguments that receive from a subscription."""
    return ["-s", f"http://{platform.gateway_addr}", "-t", TOPIC, "-m", subscription, "--sub-type", kind]


def wait_until_connected(platform: Platform, readers: list[Reader]) -> None:
    """Wait until the platform names every reader: one that never was connected gives up at a dead gateway."""
    names = {reader.name for reader in readers}
    describe: list[str | Path] = [
        ADMIN,
        "topics",
        "describe",
        TOPIC,
        "-o",
        "json",
        "--endpoint",
        f"http://{platform.admin_addr}",
    ]
    deadline = time.monotonic() + CONNECT_S_MAX
    connected: set[str] = set()
    while not names <= connected:
        assert time.monotonic() < deadline, f"only {connected} connected"
        for reader in readers:
            reader.check_runs()
        topic = json.loads(subprocess.run(describe, check=True, capture_output=True).stdout)
        connected = {name for each in topic["subscriptions"] for name in each["consumers"]}


@contextlib.contextmanager
def reading(
    platform: Platform, directory: Path, sent: list[bytes], kinds: dict[str, int]
) -> Iterator[list[Subscription]]:
    """One subscription of each kind with so many readers; on a reliable topic it misses nothing."""
    readers: list[Reader] = []
    subscriptions: list[Subscription] = []
    try:
        for kind, count in kinds.items():
            name = f"all-{kind}"
            arguments = consume(platform, name, kind)
            own = [Reader(f"{kind}-{number}", arguments, directory, sent) for number in range(1, count + 1)]
            readers.extend(own)
            subscriptions.append(Subscription(name, own))
        wait_until_connected(platform, readers)
        yield subscriptions
        for reader in readers:
            reader.interrupt()
    except BaseException:
        for reader in readers:
            reader.kill()
            print(reader.name, reader.errors)
        print(platform.output)
        raise


@pytest.mark.parametrize(
    ("count", "bound_s"),
    [
        pytest.param(CUT, BOUND_S, marks=pytest.mark.timeout(BOUND_S + 60), id="cut"),
        pytest.param(
            FLIGHTS_TOTAL,
            WHOLE_BOUND_S,
            marks=[pytest.mark.acceptance, pytest.mark.timeout(WHOLE_BOUND_S + 60)],
            id="whole",
        ),
    ],
)
def test_every_flight_arrives_on_every_subscription_though_processes_are_killed(
    count: int, bound_s: float, platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = lines(count)
    empty, file = tmp_path / "empty.jsonl", tmp_path / "flights.jsonl"
    empty.touch()
    file.write_bytes(b"\n".join(sent) + b"\n")
    subprocess.run(produce(platform, empty), check=True, capture_output=True)

    trouble = Trouble(platform, count)
    with reading(platform, tmp_path, sent, {"exclusive": 1, "shared": 3}) as subscriptions:
        began = time.monotonic()
        with (tmp_path / "producer.err").open("wb") as errors:
            producer = start(produce(platform, file), stdout=errors, stderr=errors)
        watch(subscriptions, began + bound_s, until=count, on_progress=trouble)
        ended = time.monotonic()
        status = producer.wait(timeout=bound_s)
    said = (tmp_path / "producer.err").read_text()

    reports = {
        subscription.name: check(
            {"flights": range(1, count + 1)},
            {reader.name: reader.receipts for reader in subscription.readers},
        )
        for subscription in subscriptions
    }
    with capsys.disabled():
        print(f"\n{count} flights in {ended - began:.1f} s, {count / (ended - began):.0f} flights/s")
        for name, report in reports.items():
            print(f"{name}: {report.text()}")
        for killed, until in zip(trouble.killed, [*(k.at for k in trouble.killed[1:]), ended], strict=True):
            silences = ", ".join(
                f"{one.name} {one.silence_s(killed.at, until):.2f} s" for one in subscriptions
            )
            print(f"killed {killed.name} at {killed.received}: longest silence after it: {silences}")

    assert status == 0, said
    assert re.search(rf"^{count} messages sent in ", said, re.MULTILINE), said
    assert [killed.name for killed in trouble.killed] == [name for _, name in KILLS]
    for report in reports.values():
        assert report.ok, report.text()
        assert report.received == count
    assert not reports["all-exclusive"].reordered, reports["all-exclusive"].text()
