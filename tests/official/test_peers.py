"""Our own programs in Go and Java against a platform, by `make official-test`.

They are not the official clients, which cannot be fetched: they make their calls, in their order, with the
gRPC library that those are built on (tests/official/go, tests/official/java). What they try is the platform's
HTTP/2 and its contract with that language's library, not the code of the official client.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.official.peer_build import NOT_THE_ARTIFACT, NOT_THE_MODULE, go_peer, java_peer
from tests.official.rust_build import BUILD_S_MAX, CannotBuild
from tests.official.scenario import (
    BY_PYTHON,
    Scenario,
    dead_letters_after_one_redelivery,
    no_hot_loop,
    roll_and_kill,
)

from danube_harness.platforms.standalone import Platform

SHORT = 20
LONG = int(os.environ.get("OFFICIAL_MESSAGES", "3000"))
SHORT_S_MAX = 120
LONG_S_MAX = 3000
PEERS = {"go": (go_peer, NOT_THE_MODULE), "java": (java_peer, NOT_THE_ARTIFACT)}

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


@pytest.fixture(scope="module", params=list(PEERS))
def program(request: pytest.FixtureRequest) -> tuple[str, ...]:
    build, what = PEERS[request.param]
    print(f"{request.param} is tried {what}")
    try:
        return build()
    except CannotBuild as error:
        warnings.warn(pytest.PytestWarning(f"{request.param} was not tried: {error}"), stacklevel=2)
        pytest.skip(str(error))


class Peer:
    """Begins scenarios of one program."""

    def __init__(self, program: tuple[str, ...], platform: Platform) -> None:
        self._program = (*BY_PYTHON, *program)
        self._url = f"http://{platform.gateway_addr}"

    def __call__(self, name: str, topic: str, count: int = SHORT) -> Scenario:
        return Scenario(self._program, self._url, name, topic, count)


@pytest.fixture
def begin(program: tuple[str, ...], platform: Platform) -> Peer:
    return Peer(program, platform)


@pytest.mark.parametrize(
    "scenario", ["plain", "reliable", "exclusive", "partitioned", "shared", "keys", "failover", "schemas"]
)
def test_another_language_s_grpc_works(begin: Peer, topic: str, scenario: str) -> None:
    begin(scenario, topic).succeeds(SHORT_S_MAX)


def test_what_another_language_refuses_too_often_becomes_a_dead_letter(
    begin: Peer, platform: Platform, topic: str
) -> None:
    scenario = begin("dead_letters", topic)
    scenario.await_ready()
    dead_letters_after_one_redelivery(platform, topic)
    scenario.succeeds(SHORT_S_MAX)


def test_another_language_calls_in_no_hot_loop(begin: Peer, platform: Platform, topic: str) -> None:
    scenario = begin("no_hot_loop", topic)
    no_hot_loop(platform, scenario, topic)
    scenario.succeeds(SHORT_S_MAX)


def test_another_language_loses_nothing_through_kills_and_a_rolling_restart(
    begin: Peer, platform: Platform, topic: str
) -> None:
    scenario = begin("survive", topic, LONG)
    scenario.await_ready()
    roll_and_kill(platform, lambda other: begin("plain", other, 1))
    print(scenario.succeeds(LONG_S_MAX))
