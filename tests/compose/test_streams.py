"""A Faust worker in the compose stack: `docker compose --profile streams up`."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

import docker
import pytest
from tests.compose.stack import POLL_INTERVAL_S, Stack, run

from danube_client import sync
from danube_harness.servers.server import HOST, free_ports

FLIGHTS = [
    {"line": line, "time_hour": "2013-01-01 05:00:00", "carrier": "UA", "dep_delay": delay}
    for line, delay in enumerate((2, 4, -1), 1)
]
ANSWER_TIMEOUT_S = 120.0

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


def test_the_profile_of_streams_runs_the_example_app_unprivileged(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    settings = {"COMPOSE_PROFILES": "streams", "DANUBE_STREAMS_PORT": str(port)}
    with Stack.built(tmp_path, engine, settings=settings) as stack:
        stack.up(gateway=1, topic_owner=1, storage=1)
        (worker,) = stack.containers("streams")
        assert run(["docker", "exec", str(worker.id), "id", "-u"]).strip() == "10001"
        with (
            sync.connect(stack.gateway_url) as client,
            client.producer("/default/flights", partitions=4) as producer,
        ):
            for flight in FLIGHTS:
                producer.send(json.dumps(flight).encode(), key="UA")

        wanted = {"2013-01-01T05:00:00+00:00": [3, 5]}
        url = f"http://{HOST}:{port}/delays/UA/"
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while (found := answer(url)) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(POLL_INTERVAL_S)  # another process


def answer(url: str) -> object:
    """Return the JSON of a view; None while it does not answer."""
    try:
        with urllib.request.urlopen(url, timeout=10) as got:  # noqa: S310 - ours
            return json.load(got)
    except OSError:
        return None
