"""The official Python client against a platform: short in the gate, at length by `make official-test`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.official.scenario import (
    BY_PYTHON,
    Scenario,
    dead_letters_after_one_redelivery,
    no_hot_loop,
    roll_and_kill,
)

from danube_harness.platforms.standalone import Platform

SHORT = 20
LONG = int(os.environ.get("OFFICIAL_MESSAGES", "200000"))
SHORT_S_MAX = 90
LONG_S_MAX = 3000

pytestmark = [pytest.mark.server]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    pytest.importorskip("danube", reason="danube-client is not installed: the Python client was not tried")
    with Platform.run(tmp_path_factory.mktemp("platform"), arguments=("--gateways", "2")) as running:
        yield running


@pytest.fixture
def topic() -> str:
    return f"/default/official_{uuid4().hex[:12]}"


def begin(platform: Platform, name: str, topic: str, count: int) -> Scenario:
    """One run of the program, in a process of its own as the client needs its own protobuf messages."""
    return Scenario(BY_PYTHON, f"http://{platform.gateway_addr}", name, topic, count)


@pytest.mark.parametrize(
    "scenario", ["plain", "reliable", "exclusive", "partitioned", "shared", "keys", "failover", "schemas"]
)
def test_the_python_client_works(platform: Platform, topic: str, scenario: str) -> None:
    begin(platform, scenario, topic, SHORT).succeeds(SHORT_S_MAX)


def test_what_the_python_client_refuses_too_often_becomes_a_dead_letter(
    platform: Platform, topic: str
) -> None:
    scenario = begin(platform, "dead_letters", topic, SHORT)
    scenario.await_ready()
    dead_letters_after_one_redelivery(platform, topic)
    scenario.succeeds(SHORT_S_MAX)


@pytest.mark.official
@pytest.mark.timeout(2 * SHORT_S_MAX)
def test_the_python_client_calls_in_no_hot_loop(platform: Platform, topic: str) -> None:
    scenario = begin(platform, "no_hot_loop", topic, 0)
    no_hot_loop(platform, scenario, topic)
    scenario.succeeds(SHORT_S_MAX)


@pytest.mark.official
@pytest.mark.timeout(LONG_S_MAX + 300)
def test_the_python_client_loses_nothing_through_kills_and_a_rolling_restart(
    platform: Platform, topic: str
) -> None:
    scenario = begin(platform, "survive", topic, LONG)
    scenario.await_ready()
    roll_and_kill(platform, lambda other: begin(platform, "plain", other, 1))
    print(scenario.succeeds(LONG_S_MAX))
