"""The official Rust clients of both generations; by `make official-test`, as they are compiled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.official.rust_build import BUILD_S_MAX
from tests.official.scenario import (
    Scenario,
    admin,
    dead_letters_after_one_redelivery,
    no_hot_loop,
    roll_and_kill,
)

from danube_harness.platforms.standalone import Platform

CURRENT, V0_2 = "current", "v0_2"
"""danube-client 0.15.1 and 0.2.0."""
BOTH = ("plain", "reliable", "partitioned", "exclusive", "shared", "failover")
SHORT = 20
LONG = int(os.environ.get("OFFICIAL_MESSAGES", "200000"))
SHORT_S_MAX = 120
LONG_S_MAX = 3000

pytestmark = [
    pytest.mark.official,
    pytest.mark.server,
    pytest.mark.timeout(BUILD_S_MAX + LONG_S_MAX),
    pytest.mark.filterwarnings("default::pytest.PytestWarning"),
]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform.run(tmp_path_factory.mktemp("platform"), arguments=("--gateways", "2")) as running:
        yield running


@pytest.fixture
def topic() -> str:
    return f"/default/official_{uuid4().hex[:12]}"


class Client:
    """Begins scenarios of one version of the client."""

    def __init__(self, programs: Path, platform: Platform, version: str) -> None:
        self._program = (programs / version,)
        self._url = f"http://{platform.gateway_addr}"

    def __call__(self, name: str, topic: str, count: int = SHORT) -> Scenario:
        return Scenario(self._program, self._url, name, topic, count)


@pytest.fixture(params=[CURRENT, V0_2])
def begin(request: pytest.FixtureRequest, rust_programs: Path, platform: Platform) -> Client:
    return Client(rust_programs, platform, request.param)


@pytest.fixture
def current(rust_programs: Path, platform: Platform) -> Client:
    return Client(rust_programs, platform, CURRENT)


@pytest.mark.parametrize("scenario", BOTH)
def test_the_rust_client_works(begin: Client, topic: str, scenario: str) -> None:
    begin(scenario, topic).succeeds(SHORT_S_MAX)


@pytest.mark.parametrize("scenario", ["nack", "keys"])
def test_the_current_rust_client_works(current: Client, topic: str, scenario: str) -> None:
    current(scenario, topic).succeeds(SHORT_S_MAX)


def test_the_rust_client_s_schemas_are_kept_and_its_payloads_checked(
    current: Client, platform: Platform, topic: str
) -> None:
    scenario = current("schemas", topic)
    scenario.await_ready()
    subject = topic.rpartition("/")[2]
    policy = ["--subject", subject, "--validation-policy", "enforce", "--enable-payload-validation"]
    admin(platform, "topics", "configure-schema", topic, *policy)
    assert "refused: Some(InvalidArgument)" in scenario.succeeds(SHORT_S_MAX)


def test_what_the_rust_client_refuses_too_often_becomes_a_dead_letter(
    current: Client, platform: Platform, topic: str
) -> None:
    scenario = current("dead_letters", topic)
    scenario.await_ready()
    dead_letters_after_one_redelivery(platform, topic)
    scenario.succeeds(SHORT_S_MAX)


def test_the_rust_client_calls_in_no_hot_loop(begin: Client, platform: Platform, topic: str) -> None:
    scenario = begin("no_hot_loop", topic)
    no_hot_loop(platform, scenario, topic)
    scenario.succeeds(SHORT_S_MAX)


def test_the_rust_client_loses_nothing_through_kills_and_a_rolling_restart(
    begin: Client, platform: Platform, topic: str
) -> None:
    scenario = begin("survive", topic, LONG)
    scenario.await_ready()
    roll_and_kill(platform, lambda other: begin("plain", other, 1))
    print(scenario.succeeds(LONG_S_MAX))
