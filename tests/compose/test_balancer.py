"""When the balancer says that it is well. Needs a container engine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
import yaml
from docker.models.containers import Container
from tests.compose.stack import COMPOSE_DIR, STAND_INS, STAND_INS_TAG, run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

HAPROXY = COMPOSE_DIR / "haproxy.cfg"
ASKED = 40
"""How often it is asked while nobody listens: HAProxy needs a second or two to notice."""
WELL_S_MAX = 60.0
METRICS = "http://127.0.0.1:8404/metrics?scope=server&no-maint"
SERVERS = "mkdir -p /srv/w; echo ok >/srv/w/livez; for port in {}; do busybox httpd -p $port -h /srv/w; done"


@pytest.fixture
def containers(engine: docker.DockerClient) -> Iterator[tuple[Container, Container]]:
    """The balancer, and a container that is all gateways and admins and does not listen yet."""
    run(["docker", "build", "--quiet", "--tag", STAND_INS_TAG, "-"], given=STAND_INS.read_bytes())
    network = engine.networks.create("danube-test-balancer")
    started: list[Container] = []
    try:
        for command, names in (("sleep 300", ["gateway", "admin"]), ("haproxy -W -db -f /haproxy.cfg", [])):
            made = engine.containers.create(
                STAND_INS_TAG, command, volumes=[f"{HAPROXY}:/haproxy.cfg:ro"], network_mode="none"
            )
            started.append(made)
            engine.networks.get("none").disconnect(made)
            network.connect(made, aliases=names)
            made.start()
        server, balancer = started
        yield balancer, server
    finally:
        for one in started:
            one.remove(force=True)
        network.remove()


def is_well(balancer: Container) -> bool:
    """Do as the engine does."""
    compose = yaml.safe_load(Path(COMPOSE_DIR, "docker-compose.yml").read_text())
    _, *words = compose["services"]["balancer"]["healthcheck"]["test"]
    return balancer.exec_run([word.replace("$$", "$") for word in words]).exit_code == 0


def has_answered(balancer: Container, proxy: str) -> bool:
    """Whether HAProxy says of a server of this backend that its last check went well."""
    told = balancer.exec_run(["wget", "-q", "-O", "-", METRICS]).output
    assert isinstance(told, bytes)
    well = rf'^haproxy_server_check_status\{{proxy="{proxy}",.*state="L[47]OK"\}} 1$'
    return re.search(well, told.decode(), re.MULTILINE) is not None


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WELL_S_MAX
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.2)  # the next check has no event


def test_the_balancer_is_not_well_before_a_gateway_and_an_admin_have_answered(
    containers: tuple[Container, Container],
) -> None:
    balancer, server = containers
    assert not any(is_well(balancer) for _ in range(ASKED))
    assert server.exec_run(["sh", "-c", SERVERS.format("9040 6650")]).exit_code == 0
    until(lambda: has_answered(balancer, "gateways"))
    assert not has_answered(balancer, "admins")
    assert not is_well(balancer), "no admin listens"
    assert server.exec_run(["sh", "-c", SERVERS.format("50051")]).exit_code == 0
    until(lambda: is_well(balancer))
