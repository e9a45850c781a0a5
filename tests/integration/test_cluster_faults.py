"""Each part of a cluster killed, paused and cut off under load: nothing is lost, others take its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from danube_common import keys
from danube_common.metadata.etcd import EtcdMetadata
from danube_proto import danube_admin_pb2 as pb
from danube_testing.admin_calls import ask_admin
from danube_testing.cluster import ClusterPlatform
from danube_testing.cluster_load import Load

COUNTS = {"admin": 2, "topic-owner": 3, "gateway": 2, "storage": 2}
FAULT_S = 6.0
"""Longer than a registration lives without renewal (5 s)."""
TAKEOVER_S_MAX = 10.0
"""Promise 3."""
FAULTS = ("stop", "kill", "pause", "cut")
SERVER_FAULTS = ("kill", "pause")
ROLES = ("topic-owner", "gateway", "storage", "admin")
SERVERS = ("etcd", "nats")

Undo = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one instance of a role: of an admin the leader, of an owner one that owns."""

    role: str
    what: str

    def __str__(self) -> str:
        return f"{self.role} {self.what}"


async def strike(platform: ClusterPlatform, fault: Fault) -> Undo:
    """Begin the fault; what is returned ends it and waits until the instance serves again."""
    if fault.role in SERVERS:
        member = (platform.etcd if fault.role == "etcd" else platform.nats).members[0]
        if fault.what == "kill":
            await member.kill()
            return member.start
        member.pause()

        async def woken() -> None:
            member.resume()

        return woken
    name = f"{fault.role}-1" if fault.role != "admin" else await leading(platform)
    service = platform[name]
    if fault.what == "stop":
        assert await service.stop() == 0
        return service.start
    if fault.what == "kill":
        await service.kill()
        return service.start
    begin, end = {
        "pause": (service.pause, service.resume),
        "cut": (service.cut_off, service.heal),
    }[fault.what]
    begin()

    async def over() -> None:
        end()
        await service.until_ready()

    return over


async def leading(platform: ClusterPlatform) -> str:
    """The leading admin's name."""
    answer = await ask_admin(
        platform.admin_addrs, "/danube_admin.BrokerAdmin/GetLeaderBroker", pb.Empty(), pb.BrokerResponse
    )
    return platform.instance(answer.leader).name


@asynccontextmanager
async def loaded_cluster(directory: Path) -> AsyncIterator[tuple[ClusterPlatform, Load]]:
    async with (
        ClusterPlatform.run(directory, COUNTS, lines=True) as platform,
        Load.run(platform.gateway_urls) as load,
    ):
        yield platform, load
        await load.finish()
        print(load.text())
        load.check()
        store = await EtcdMetadata.connect(platform.etcd.endpoints)
        claims = (await store.list(keys.OWNERS)).entries
        await store.close()
        assert len(claims) == 6, "every bundle has exactly one owner"


async def suffer(platform: ClusterPlatform, load: Load, faults: Sequence[Fault]) -> None:
    """All at once, until everything flows in spite of them; then they end, and it flows again."""
    began = time.monotonic()
    undo = await asyncio.gather(*(strike(platform, fault) for fault in faults))
    await asyncio.sleep(FAULT_S)
    await load.until_flowing()
    during = load.silence(began, time.monotonic())
    await asyncio.gather(*(end() for end in undo))
    await load.until_flowing()
    silence = load.silence(began, time.monotonic())
    print(f"{' and '.join(map(str, faults))}: {silence}; while it lasted: {during}")
    if all(fault.role == "topic-owner" for fault in faults):
        assert silence.delivery_s < TAKEOVER_S_MAX


@pytest.mark.timeout(300)
async def test_one_part_after_another_fails_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    async with loaded_cluster(tmp_path) as (platform, load):
        for role, what in (
            ("topic-owner", "pause"),
            ("gateway", "kill"),
            ("topic-owner", "cut"),
            ("admin", "kill"),
            ("etcd", "pause"),
            ("nats", "kill"),
        ):
            await suffer(platform, load, [Fault(role, what)])


@pytest.mark.acceptance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", FAULTS)
async def test_every_role_fails_in_every_way_and_nothing_is_lost(tmp_path: Path, what: str) -> None:
    async with loaded_cluster(tmp_path) as (platform, load):
        for role in (*ROLES, *(SERVERS if what in SERVER_FAULTS else ())):
            await suffer(platform, load, [Fault(role, what)])


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", FAULTS)
async def test_any_two_roles_fail_together_and_nothing_is_lost(tmp_path: Path, what: str) -> None:
    roles = [*ROLES, *(SERVERS if what in SERVER_FAULTS else ())]
    async with loaded_cluster(tmp_path) as (platform, load):
        for number, one in enumerate(roles):
            for other in roles[number + 1 :]:
                await suffer(platform, load, [Fault(one, what), Fault(other, what)])
