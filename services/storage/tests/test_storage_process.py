from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from danube_common.bus.nats import NatsBus
from danube_common.cluster import keys
from danube_common.cluster.records import Instance, decode_record
from danube_common.errors import NoResponders
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.metadata.port import Change
from danube_harness.process_death import die_with_parent
from danube_harness.servers.nats_server import NatsServer

INSTANCE_ID = "77"
WAIT_S = 40.0


class Storage:
    """A running storage process and the test's own eyes on the cluster."""

    def __init__(
        self, process: Process, told: dict[str, Any], bus: NatsBus, store: JetStreamMetadata
    ) -> None:
        self.process = process
        self.told = told
        self.bus = bus
        self.store = store

    async def next_registration(self, after_revision: int) -> Change:
        async with asyncio.timeout(WAIT_S):
            async for change in self.store.watch(keys.REGISTER, after_revision=after_revision):
                return change
        raise AssertionError("the watch ended")


@pytest.fixture
async def storage(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Storage]:
    ready_file = tmp_path / "ready.json"
    with (tmp_path / "storage.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "danube_storage", "--nats-url", nats_server.url),
            *("--instance-id", INSTANCE_ID, "--ready-file", str(ready_file)),
            stdin=DEVNULL,
            stderr=log,
            preexec_fn=die_with_parent,
        )
    try:
        async with asyncio.timeout(WAIT_S):
            while not ready_file.exists():  # noqa: ASYNC110 - a file of another process has no event
                await asyncio.sleep(0.02)
        bus = await NatsBus.connect(nats_server.url, name="test")
        store = await JetStreamMetadata.open(bus.connection)
        yield Storage(process, json.loads(ready_file.read_text()), bus, store)
        await store.close()
        await bus.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_running_storage_is_registered_pingable_and_healthy(storage: Storage) -> None:
    entry = await storage.store.get(keys.instance_key(INSTANCE_ID))
    assert entry is not None
    instance = decode_record(Instance, entry.value)
    assert (instance.kind, instance.http_url) == ("storage", storage.told["http_url"])
    assert instance.backends == ("disk",)
    assert await storage.bus.request("danube.storage.ping", b"", timeout_s=5) == INSTANCE_ID.encode()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{storage.told['http_url']}/readyz") as response:
            checks = (await response.json())["checks"]
            assert response.status == 200
        async with session.get(f"{storage.told['http_url']}/metrics") as response:
            assert "danube_storage_pings_total 1.0" in await response.text()
    assert set(checks) == {"service", "bus", "metadata", "presence", "archive", "segments"}


async def test_a_stopped_storage_gives_its_place_up_at_once(storage: Storage) -> None:
    before = await storage.store.list(keys.REGISTER)
    storage.process.terminate()
    assert await asyncio.wait_for(storage.process.wait(), WAIT_S) == 0
    assert await storage.store.get(keys.instance_key(INSTANCE_ID)) is None
    assert len(before.entries) == 1
    with pytest.raises(NoResponders):
        await storage.bus.request("danube.storage.ping", b"", timeout_s=5)


async def test_a_storage_that_lost_its_place_registers_again(storage: Storage) -> None:
    await storage.store.delete(keys.instance_key(INSTANCE_ID))
    revision = (await storage.store.list(keys.REGISTER)).revision
    change = await storage.next_registration(revision)
    while change.value is None:
        change = await storage.next_registration(change.revision)
    assert decode_record(Instance, change.value).instance_id == INSTANCE_ID


async def test_without_nats_the_storage_is_alive_but_not_ready_and_comes_back(
    storage: Storage, nats_server: NatsServer
) -> None:
    async def readiness(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{storage.told['http_url']}/readyz") as response:
            return response.status

    async def until(session: aiohttp.ClientSession, status: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while await readiness(session) != status:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.05)

    async with aiohttp.ClientSession() as session:
        assert await readiness(session) == 200
        await nats_server.kill()
        await until(session, 503)
        async with session.get(f"{storage.told['http_url']}/livez") as response:
            assert response.status == 200
        await nats_server.start()
        await until(session, 200)
    assert storage.process.returncode is None
