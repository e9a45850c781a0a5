"""Runs the programs of the official clients, and plays their operator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from danube_harness.platforms.standalone import Platform

ROOT = Path(__file__).parents[2]
BY_PYTHON = (sys.executable, "-m", "tests.official.python.scenarios")
"""The program of the official Python client; with the words of another program, that one's."""
ADMIN_S_MAX = 60
CALLS_PER_S_MAX = 5
WORKS_S_MAX = 120.0
WATCH_S = 10.0
POLL_S = 0.2
RPC_TOTAL = "danube_broker_rpc_total{"


class Scenario:
    """One run of a client's program, in the root of the repository: ``PROGRAM URL SCENARIO TOPIC COUNT``.

    It ends with code 0 and the line ``SCENARIO: done``. One that needs its operator prints ``ready`` and
    waits for a line.
    """

    def __init__(
        self, program: Sequence[str | Path], url: str, name: str, topic: str, count: int, **environment: str
    ) -> None:
        self._name = name
        self._said: list[str] = []
        self._process = subprocess.Popen(
            [*program, url, name, topic, str(count)],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def await_ready(self) -> None:
        """Wait until it is the operator's turn."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n":
                return
            self._said.append(line)
        raise AssertionError("".join(self._said))

    def go_on(self) -> None:
        """Say that the operator's turn is over."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def ends(self, timeout_s: float) -> tuple[int, str]:
        """Go on; return the exit code and all that it said."""
        try:
            said, _ = self._process.communicate("\n", timeout_s)
        finally:
            self._process.kill()
        return self._process.returncode, "".join([*self._said, said])

    def succeeds(self, timeout_s: float) -> str:
        """Go on, and return what it says at its end, which must be a good one."""
        code, said = self.ends(timeout_s)
        assert code == 0, said
        assert f"{self._name}: done" in said
        return said


def admin(platform: Platform, *words: str) -> None:
    """Run ``danube-admin``, which must succeed."""
    command = [
        *(sys.executable, "-m", "danube_admin_cli"),
        *words,
        *("--endpoint", f"http://{platform.admin_addr}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ADMIN_S_MAX, check=False)
    assert done.returncode == 0, done.stderr


def dead_letters_after_one_redelivery(platform: Platform, topic: str) -> None:
    """Set the failure policy of the subscription ``sub``."""
    policy = ["--max-redelivery-count", "1", "--base-redelivery-delay-ms", "10"]
    policy += ["--poison-policy", "dead-letter", "--dead-letter-topic", f"{topic}_dead"]
    admin(platform, "topics", "set-failure-policy", topic, "-s", "sub", *policy)


FAULTS = (
    *((signal.SIGKILL, "gateway"), (signal.SIGKILL, "topic-owner")),
    *((signal.SIGTERM, name) for name in ("gateway", "gateway", "topic-owner", "storage", "admin")),
)
"""Kills, then a rolling restart."""


def roll_and_kill(platform: Platform, begin: Callable[[str], Scenario]) -> None:
    """Kill and restart services, each once the platform works again: a scenario succeeds on a new topic."""
    for how, name in FAULTS:
        platform.kill(name, how)
        deadline = time.monotonic() + WORKS_S_MAX
        while True:
            code, said = begin(f"/default/official_{uuid4().hex[:12]}").ends(WORKS_S_MAX)
            if code == 0:
                break
            assert time.monotonic() < deadline, said


def no_hot_loop(platform: Platform, scenario: Scenario, topic: str) -> None:
    """Watch the calls of a client whose consumer is refused, whose stream ends, whose topic is deleted."""
    scenario.await_ready()
    assert calls_stay_few(platform, "a consumer is refused") > 0
    scenario.go_on()
    scenario.await_ready()
    platform.kill("gateway")
    _await_gateways(platform)  # the oldest one has all streams now
    calls_stay_few(platform, "the stream has ended", lambda: platform.kill("gateway"))
    _await_gateways(platform)
    scenario.go_on()
    scenario.await_ready()
    calls_stay_few(
        platform, "the topic is deleted", lambda: admin(platform, "topics", "delete", topic, "--yes")
    )


def calls_stay_few(platform: Platform, what: str, act: Callable[[], object] = lambda: None) -> float:
    """Watch how many calls a second reach the gateways once something is done, and return it."""
    before = {url: _calls(url) for url in platform.http_urls("gateway")}
    act()
    time.sleep(WATCH_S)  # what must not happen has no event
    made: Counter[str] = Counter()
    for url, counted in before.items():
        now = _calls(url)
        # A gateway that was started again counts from 0.
        made += now - counted if now.total() >= counted.total() else now
    rate = made.total() / WATCH_S
    print(f"{what}: {rate:.1f} calls/s: {dict(made)}")
    assert rate <= CALLS_PER_S_MAX, f"{what}: {rate:.1f} calls/s: {made}"
    return rate


def _await_gateways(platform: Platform) -> None:
    deadline = time.monotonic() + ADMIN_S_MAX
    while not all(_page(f"{url}/readyz") for url in platform.http_urls("gateway")):
        assert time.monotonic() < deadline, "the gateways are started again in time"
        time.sleep(POLL_S)


def _calls(url: str) -> Counter[str]:
    series = (
        line.rpartition(" ") for line in _page(f"{url}/metrics").splitlines() if line.startswith(RPC_TOTAL)
    )
    return Counter({name: int(float(value)) for name, _, value in series})


def _page(url: str) -> str:
    """Return what a service serves there; nothing while it is not ready, or being started again."""
    try:
        with urllib.request.urlopen(url, timeout=ADMIN_S_MAX) as answer:  # noqa: S310 - its own
            text: str = answer.read().decode()
    except OSError:
        return ""
    return text
