"""When the balancer says that it is well. Needs a container engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
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


def test_the_balancer_is_not_well_before_a_gateway_and_an_admin_have_answered(
    containers: tuple[Container, Container],
) -> None:
    balancer, server = containers
    assert not any(is_well(balancer) for _ in range(ASKED))
    assert server.exec_run(["sh", "-c", SERVERS.format("9040 6650")]).exit_code == 0
    time.sleep(3)  # longer than HAProxy waits to ask again
    assert not is_well(balancer), "no admin listens"
    assert server.exec_run(["sh", "-c", SERVERS.format("50051")]).exit_code == 0
    deadline = time.monotonic() + WELL_S_MAX
    while not is_well(balancer):
        assert time.monotonic() < deadline
        time.sleep(0.2)  # the next check has no event
