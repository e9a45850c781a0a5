"""Each part of a cluster killed, paused and cut off under load: nothing is lost, others take its place."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from danube_common.cluster import keys
from danube_common.cluster.records import Claim, Topic, decode_record
from danube_common.metadata.etcd import EtcdMetadata
from danube_common.model.names import TopicName
from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.platforms.cluster import ClusterPlatform
from danube_harness.platforms.service_process import ServiceProcess
from danube_harness.servers.etcd_server import EtcdServer
from danube_harness.servers.nats_server import NatsServer
from danube_harness.traffic.load import TOPICS, Load
from danube_proto import danube_admin_pb2 as pb

COUNTS = {"admin": 2, "topic-owner": 3, "gateway": 2, "storage": 2}
FAULT_S = 6.0
"""Longer than a registration lives without renewal (5 s)."""
TAKEOVER_S_MAX = 10.0
"""Within this time another owner serves the topics of one that failed."""
PATIENCE_S = 60.0
FAULTS = ("stop", "kill", "pause", "cut")
SERVER_FAULTS = ("kill", "pause")
ROLES = ("topic-owner", "gateway", "storage", "admin")
SERVERS = ("etcd", "nats")

Undo = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one instance of a role."""

    role: str
    what: str

    def __str__(self) -> str:
        return f"{self.role} {self.what}"


class Striker:
    """Hurts the instance that matters: the leading admin, an owner with topics, else each one in turn.

    Clients leave a gateway that fails and stay where they went: the next fault follows them.
    """

    def __init__(self, platform: ClusterPlatform, load: Load) -> None:
        self.platform = platform
        self.load = load
        self._turns: Counter[str] = Counter()

    async def strike(self, fault: Fault) -> Undo:
        """Begin the fault; what is returned ends it and waits until the instance serves again."""
        turn = self._turns[fault.role]
        self._turns[fault.role] += 1
        if fault.role in SERVERS:
            members: Sequence[EtcdServer | NatsServer] = self.platform.etcd.members
            if fault.role == "nats":
                members = self.platform.nats.members
            return await self._strike_server(members[turn % len(members)], fault.what)
        if fault.role == "admin":
            service = await self._leading()
        elif fault.role == "topic-owner":
            service = await self._owning()
        else:
            instances = self.platform.of_kind(fault.role)
            service = instances[turn % len(instances)]
        return await self._strike_service(service, fault.what)

    async def suffer(self, *faults: Fault, takeover_s_max: float = TAKEOVER_S_MAX) -> None:
        """All at once, until everything flows in spite of them; then they end, and it flows again.

        When only owners fail, others must have taken over in time.
        """
        load = self.load
        began = time.monotonic()
        undo = await asyncio.gather(*(self.strike(fault) for fault in faults))
        await asyncio.sleep(FAULT_S)
        await load.until_flowing()
        during = load.silence(began, time.monotonic())
        await asyncio.gather(*(end() for end in undo))
        await load.until_flowing()
        silence = load.silence(began, time.monotonic())
        print(f"{' and '.join(map(str, faults))}: {silence}; while it lasted: {during}")
        if all(fault.role == "topic-owner" for fault in faults):
            assert silence.delivery_s < takeover_s_max

    async def _strike_server(self, member: EtcdServer | NatsServer, what: str) -> Undo:
        if what == "kill":
            await member.kill()
            return member.start
        member.pause()

        async def woken() -> None:
            member.resume()

        return woken

    async def _strike_service(self, service: ServiceProcess, what: str) -> Undo:
        if what == "stop":
            assert await service.stop() == 0
            return service.start
        if what == "kill":
            await service.kill()
            return service.start
        begin, end = {
            "pause": (service.pause, service.resume),
            "cut": (service.cut_off, service.heal),
        }[what]
        begin()

        async def over() -> None:
            end()
            await service.until_ready()

        return over

    async def _leading(self) -> ServiceProcess:
        answer = await ask_admin(
            self.platform.admin_addrs,
            "/danube_admin.BrokerAdmin/GetLeaderBroker",
            pb.Empty(),
            pb.BrokerResponse,
        )
        return self.platform.instance(answer.leader)

    async def _owning(self) -> ServiceProcess:
        """The owner of the first topic."""
        store = await EtcdMetadata.connect(self.platform.etcd.endpoints)
        try:
            topic = await store.get(keys.topic_key(TopicName.parse(TOPICS[0].name)))
            assert topic is not None
            key = keys.owner_key(decode_record(Topic, topic.value).home)
            async with asyncio.timeout(PATIENCE_S):
                while (claim := await store.get(key)) is None:  # noqa: ASYNC110 - it is being handed over
                    await asyncio.sleep(0.1)
            return self.platform.instance(decode_record(Claim, claim.value).instance_id)
        finally:
            await store.close()


@asynccontextmanager
async def loaded_cluster(directory: Path) -> AsyncIterator[Striker]:
    async with (
        ClusterPlatform.run(directory, COUNTS, lines=True) as platform,
        Load.run(platform.gateway_urls) as load,
    ):
        await load.until_flowing()
        yield Striker(platform, load)
        await load.finish()
        print(load.text())
        load.check()
        assert len(await platform.until_settled()) == 6, "every bundle has exactly one owner"


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_one_part_after_another_fails_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    async with loaded_cluster(tmp_path) as striker:
        for role, what in (
            ("topic-owner", "pause"),
            ("gateway", "kill"),
            ("topic-owner", "cut"),
            ("etcd", "pause"),
            ("nats", "kill"),
        ):
            # The gate shares its machine: when etcd itself stands still for seconds, so do leases.
            await striker.suffer(Fault(role, what), takeover_s_max=PATIENCE_S)


@pytest.mark.acceptance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", FAULTS)
async def test_every_role_fails_in_every_way_and_nothing_is_lost(tmp_path: Path, what: str) -> None:
    async with loaded_cluster(tmp_path) as striker:
        for role in (*ROLES, *(SERVERS if what in SERVER_FAULTS else ())):
            await striker.suffer(Fault(role, what))


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", FAULTS)
async def test_any_two_roles_fail_together_and_nothing_is_lost(tmp_path: Path, what: str) -> None:
    roles = [*ROLES, *(SERVERS if what in SERVER_FAULTS else ())]
    async with loaded_cluster(tmp_path) as striker:
        for number, one in enumerate(roles):
            for other in roles[number + 1 :]:
                await striker.suffer(Fault(one, what), Fault(other, what))
