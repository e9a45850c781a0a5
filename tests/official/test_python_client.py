"""The official Python client against a platform: short in the gate, at length by `make official-test`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from danube_harness.platforms.standalone import Platform

SCENARIOS = Path(__file__).parent / "python" / "scenarios.py"
SHORT = 20
LONG = int(os.environ.get("OFFICIAL_MESSAGES", "200000"))
SHORT_S_MAX = 90
LONG_S_MAX = 3000
ADMIN_S_MAX = 60

pytestmark = [pytest.mark.server]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    pytest.importorskip("danube", reason="danube-client is not installed: the Python client was not tried")
    with Platform.run(tmp_path_factory.mktemp("platform"), arguments=("--gateways", "2")) as running:
        yield running


@pytest.fixture
def topic() -> str:
    return f"/default/official_{uuid4().hex[:12]}"


class Scenario:
    """One run of the program, in a process of its own as the client needs its own protobuf messages."""

    def __init__(self, platform: Platform, name: str, topic: str, count: int) -> None:
        words = [sys.executable, str(SCENARIOS), f"http://{platform.gateway_addr}", name, topic, str(count)]
        self._name = name
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def await_ready(self) -> None:
        """Wait until it is the operator's turn."""
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            if line == "ready\n":
                return
            said.append(line)
        raise AssertionError("".join(said))

    def succeeds(self, timeout_s: float) -> str:
        """Go on, and return what it says at its end, which must be a good one."""
        try:
            said, _ = self._process.communicate("\n", timeout_s)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, said
        assert f"{self._name}: done" in said
        return said


def admin(platform: Platform, *words: str) -> None:
    command = [
        sys.executable,
        "-m",
        "danube_admin_cli",
        *words,
        "--endpoint",
        f"http://{platform.admin_addr}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ADMIN_S_MAX, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "scenario", ["plain", "reliable", "partitioned", "shared", "keys", "failover", "schemas"]
)
def test_the_python_client_works(platform: Platform, topic: str, scenario: str) -> None:
    Scenario(platform, scenario, topic, SHORT).succeeds(SHORT_S_MAX)


def test_what_the_python_client_refuses_too_often_becomes_a_dead_letter(
    platform: Platform, topic: str
) -> None:
    scenario = Scenario(platform, "dead_letters", topic, SHORT)
    scenario.await_ready()
    policy = ["--max-redelivery-count", "1", "--base-redelivery-delay-ms", "10"]
    policy += ["--poison-policy", "dead-letter", "--dead-letter-topic", f"{topic}_dead"]
    admin(platform, "topics", "set-failure-policy", topic, "-s", "sub", *policy)
    scenario.succeeds(SHORT_S_MAX)


@pytest.mark.official
@pytest.mark.timeout(2 * SHORT_S_MAX)
def test_the_python_client_calls_in_no_hot_loop(platform: Platform, topic: str) -> None:
    scenario = Scenario(platform, "no_hot_loop", topic, 0)
    scenario.await_ready()
    admin(platform, "topics", "delete", topic)
    print(scenario.succeeds(SHORT_S_MAX))


@pytest.mark.official
@pytest.mark.timeout(LONG_S_MAX + 300)
def test_the_python_client_loses_nothing_through_kills_and_a_rolling_restart(
    platform: Platform, topic: str
) -> None:
    scenario = Scenario(platform, "survive", topic, LONG)
    scenario.await_ready()
    faults = [(signal.SIGKILL, "gateway"), (signal.SIGKILL, "topic-owner")]
    faults += [(signal.SIGTERM, name) for name in ("gateway", "gateway", "topic-owner", "storage", "admin")]
    for number, name in faults:
        platform.kill(name, number)
        Scenario(platform, "plain", f"{topic}_{uuid4().hex[:6]}", 1).succeeds(SHORT_S_MAX)
    scenario.succeeds(LONG_S_MAX)
