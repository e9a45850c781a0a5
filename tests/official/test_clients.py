"""The clients of both generations against a platform: the same scenarios, and the same faults, for each.

The official Python client plays the short ones in the gate. The others, and what takes long, are played by
`make official-test`. The official Rust clients are compiled. Go and Java are our own programs, as these
clients cannot be fetched: they make the calls of the official one, in its order, with the gRPC library that
it is built on (tests/official/go, tests/official/java). What they try is the platform's HTTP/2 and its
contract with that library, not the code of the official client.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from tests.official import peer_build, rust_build
from tests.official.rust_build import BUILD_S_MAX, CannotBuild
from tests.official.scenario import (
    BY_PYTHON,
    Scenario,
    admin,
    dead_letters_after_one_redelivery,
    no_hot_loop,
    roll_and_kill,
)

from danube_harness.platforms.standalone import Platform

Program = tuple[str | Path, ...]

SHORT = 20
LONG = os.environ.get("OFFICIAL_MESSAGES")
SHORT_S_MAX = 120
LONG_S_MAX = 3000

OF_BOTH = ("plain", "reliable", "partitioned", "exclusive", "shared", "failover")
OF_TODAY = ("nack", "keys")


@dataclass(frozen=True)
class Client:
    """A client. `sets_policies`: of topics; `what`: stands in for it."""

    build: Callable[[], Program]
    today: bool = True
    sets_policies: bool = True
    messages: int = 200_000
    what: str = ""


def _python() -> Program:
    if importlib.util.find_spec("danube") is None:
        raise CannotBuild("danube-client is not installed")
    return BY_PYTHON


def _rust(program: str) -> Program:
    return (rust_build.clients() / program,)


def _go(generation: str) -> Program:
    return (*BY_PYTHON, *peer_build.go_peer(generation))


def _java() -> Program:
    return (*BY_PYTHON, *peer_build.java_peer())


CLIENTS: Final = {
    "python": Client(_python),
    "rust": Client(lambda: _rust("current"), sets_policies=False),
    "rust-v0.2": Client(lambda: _rust("v0_2"), today=False),
    "go": Client(lambda: _go(peer_build.CURRENT), messages=3000, what=peer_build.NOT_THE_MODULE),
    "go-v0.2": Client(
        lambda: _go(peer_build.V0_2), today=False, messages=3000, what=peer_build.NOT_THE_MODULE
    ),
    "java": Client(_java, messages=3000, what=peer_build.NOT_THE_ARTIFACT),
}

pytestmark = [
    pytest.mark.server,
    pytest.mark.timeout(BUILD_S_MAX + LONG_S_MAX),
    pytest.mark.filterwarnings("default::pytest.PytestWarning"),
]


def clients(*, today: bool = False, long: bool = False) -> pytest.MarkDecorator:
    """Try a test with each client, or with each of the current generation; `long` is not for the gate."""
    return pytest.mark.parametrize(
        "client",
        [
            pytest.param(name, marks=() if name == "python" and not long else pytest.mark.official)
            for name, client in CLIENTS.items()
            if client.today or not today
        ],
        indirect=True,
        scope="module",
    )


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform.run(tmp_path_factory.mktemp("platform"), arguments=("--gateways", "2")) as running:
        yield running


@pytest.fixture
def topic() -> str:
    return f"/default/official_{uuid4().hex[:12]}"


@dataclass(frozen=True)
class Peer:
    """Begins scenarios of one client, each in a process of its own."""

    program: Program
    url: str
    client: Client

    def __call__(self, name: str, topic: str, count: int = SHORT) -> Scenario:
        return Scenario(self.program, self.url, name, topic, count)


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest, platform: Platform) -> Peer:
    wanted = CLIENTS[request.param]
    if wanted.what:
        print(f"{request.param} is tried {wanted.what}")
    try:
        program = wanted.build()
    except CannotBuild as error:
        warnings.warn(pytest.PytestWarning(f"{request.param} was not tried: {error}"), stacklevel=2)
        pytest.skip(str(error))
    return Peer(program, f"http://{platform.gateway_addr}", wanted)


@clients()
@pytest.mark.parametrize("scenario", OF_BOTH)
def test_a_client_works(client: Peer, topic: str, scenario: str) -> None:
    client(scenario, topic).succeeds(SHORT_S_MAX)


@clients(today=True)
@pytest.mark.parametrize("scenario", OF_TODAY)
def test_a_client_of_today_works(client: Peer, topic: str, scenario: str) -> None:
    client(scenario, topic).succeeds(SHORT_S_MAX)


@clients(today=True)
def test_the_schemas_of_a_client_are_kept_and_its_payloads_checked(
    client: Peer, platform: Platform, topic: str
) -> None:
    scenario = client("schemas", topic)
    if client.client.sets_policies:
        scenario.succeeds(SHORT_S_MAX)
        return
    scenario.await_ready()
    subject = topic.rpartition("/")[2]
    policy = ["--subject", subject, "--validation-policy", "enforce", "--enable-payload-validation"]
    admin(platform, "topics", "configure-schema", topic, *policy)
    assert "refused: Some(InvalidArgument)" in scenario.succeeds(SHORT_S_MAX)


@clients(today=True)
def test_what_a_client_refuses_too_often_becomes_a_dead_letter(
    client: Peer, platform: Platform, topic: str
) -> None:
    scenario = client("dead_letters", topic)
    scenario.await_ready()
    dead_letters_after_one_redelivery(platform, topic)
    scenario.succeeds(SHORT_S_MAX)


@clients(long=True)
def test_a_client_calls_in_no_hot_loop(client: Peer, platform: Platform, topic: str) -> None:
    scenario = client("no_hot_loop", topic)
    no_hot_loop(platform, scenario, topic)
    scenario.succeeds(SHORT_S_MAX)


@clients(long=True)
def test_a_client_loses_nothing_through_kills_and_a_rolling_restart(
    client: Peer, platform: Platform, topic: str
) -> None:
    scenario = client("survive", topic, int(LONG or client.client.messages))
    scenario.await_ready()
    roll_and_kill(platform, lambda other: client("plain", other, 1))
    print(scenario.succeeds(LONG_S_MAX))
