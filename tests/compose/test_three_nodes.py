"""The stack with three servers of each kind: the loss of one costs no message. Needs a container engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import docker
import pytest
from tests.compose.load import DISK, OBJECTS, load, topics
from tests.compose.stack import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

NODES = 3
SETTLE_S = 4.0
OUTAGE_S = 8.0


@pytest.fixture(scope="module")
def stack(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack.built(tmp_path_factory.mktemp("stack"), engine, overlays=["three-nodes.yml"]) as built:
        built.up(gateway=1, topic_owner=2, storage=1)
        yield built


def streams(stack: Stack) -> dict[str, int]:
    """The servers that keep each stream, as one of the NATS servers knows it."""
    asked = "http://127.0.0.1:8222/jsz?streams=true&config=true"
    output = stack.containers("nats")[0].exec_run(["wget", "-q", "-O", "-", asked]).output
    assert isinstance(output, bytes)
    details = json.loads(output)["account_details"][0]["stream_detail"]
    return {one["name"]: one["config"]["num_replicas"] for one in details}


async def test_nothing_is_lost_while_one_server_of_each_kind_is_gone(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    async with load(stack.gateway_url, topics("hurt", DISK, OBJECTS)) as under:
        for number in range(1, NODES + 1):
            names = [f"{kind}-{number}" if number > 1 else kind for kind in ("nats", "etcd")]
            under.mark(f"kill {' and '.join(names)}")
            killed = [stack.containers(name)[0] for name in names]
            for container in killed:
                await asyncio.to_thread(container.kill)
            await asyncio.sleep(OUTAGE_S)
            under.mark("start them")
            for container in killed:
                await asyncio.to_thread(container.start)
            for container in killed:
                await asyncio.to_thread(stack.until_healthy, container)
            await asyncio.sleep(SETTLE_S)
    with capsys.disabled():
        print(f"\none server of each kind gone\n{under.text()}")
    assert under.problems == []


def test_every_log_and_journal_is_kept_by_all_three_servers(stack: Stack) -> None:
    kept = streams(stack)
    assert kept
    assert set(kept.values()) == {NODES}, kept
