"""Each service's identity at NATS tries what is another's."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.aio.client import Client

from danube_common.bus.nats import NatsBus
from danube_common.cluster.key_writers import KINDS
from danube_common.nats.access import NatsAccess
from danube_harness.servers.nats_server import NatsServer
from danube_standalone.nats_users import OPERATOR

pytestmark = [pytest.mark.server, pytest.mark.asyncio(loop_scope="module")]

_SUBJECT = re.compile(r'[Vv]iolation for (\w+) to "([^"]+)"')
PASSWORDS = {user: f"the password of {user}" for user in (*KINDS, OPERATOR)}
API = "$JS.API"
PUBLISHED = {
    "danube.log.f0": {"gateway", "topic-owner"},
    "danube.fast.f0": {"gateway"},
    "danube.journal.f0": {"topic-owner"},
    "danube.producers": {"gateway"},
    "danube.gateway.1-a": {"topic-owner"},
    "danube.owner.f0.1": set(KINDS),
    "danube.live.f0": set(),
    "danube.storage.1": set(KINDS),
    "danube.storage.1.copies": {"storage"},
    "danube.storage.1.repair": {"storage", "admin"},
    "$KV.danube.security.roles.x": {"admin"},
    "$KV.danube.cluster.assignments.f0": {"admin"},
    "$KV.danube.cluster.leader": {"admin"},
    "$KV.danube.cluster.layout": {"admin"},
    "$KV.danube.cluster.register.1": set(KINDS),
    "$KV.danube.cluster.owners.f0": {"topic-owner"},
    "$KV.danube.cluster.load.1": {"topic-owner"},
    "$KV.danube.storage.cuts.f0.1": {"storage", "admin"},
    "$KV.danube.topics.default.x.definition": {"gateway", "topic-owner", "admin"},
    "$KV.danube.schemas.last_id": {"gateway", "admin"},
    "$KV.danube.namespaces.default.policy": {"admin"},
    "$KV.danube.anything": set(),
    f"{API}.STREAM.DELETE.DANUBE_LOG_f0": set(),
    f"{API}.STREAM.DELETE.DANUBE_JOURNAL": {"topic-owner"},
    f"{API}.STREAM.DELETE.KV_danube": set(),
    f"{API}.STREAM.PURGE.KV_danube": set(),
    f"{API}.STREAM.PURGE.DANUBE_LOG_f0": {"storage"},
    f"{API}.STREAM.PURGE.DANUBE_JOURNAL": {"topic-owner"},
    f"{API}.STREAM.MSG.GET.DANUBE_JOURNAL": {"topic-owner", "storage"},
    f"{API}.DIRECT.GET.DANUBE_LOG_f0": {"topic-owner", "storage"},
    f"{API}.CONSUMER.CREATE.DANUBE_LOG_f0.x": set(),
    f"{API}.STREAM.LIST": set(),
    f"{API}.STREAM.SNAPSHOT.DANUBE_LOG_f0": {"admin"},
    f"{API}.STREAM.SNAPSHOT.DANUBE_JOURNAL": {"topic-owner", "admin"},
    f"{API}.STREAM.RESTORE.DANUBE_LOG_f0": set(),
    f"{API}.STREAM.UPDATE.DANUBE_JOURNAL": {"topic-owner"},
    "$SYS.REQ.SERVER.PING": set(),
    "anything": set(),
}
SUBSCRIBED = {
    "danube.gateway.*": {"gateway"},
    "danube.producers": {"gateway"},
    "danube.owner.>": {"topic-owner"},
    "danube.fast.*": {"topic-owner"},
    "danube.live.*": {"topic-owner", "storage"},
    "danube.storage.*": {"storage"},
    "danube.log.*": set(),
    "danube.journal.*": set(),
    "$KV.danube.>": set(),
    "_INBOX.>": set(),
    **{f"_INBOX.{user}.>": {user} for user in KINDS},
    ">": set(),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    async with NatsServer.run(tmp_path_factory.mktemp("nats"), passwords=PASSWORDS) as running:
        yield running


class Tried:
    """A connection of one user, which notes the subjects that the server refuses."""

    def __init__(self) -> None:
        self.client = Client()
        self.refused: set[str] = set()

    async def open(self, url: str, user: str) -> None:
        async def note(error: Exception) -> None:
            if found := _SUBJECT.search(str(error)):
                self.refused.add(f"{found[1]} {found[2]}".lower())

        await self.client.connect(
            url,
            user=user,
            password=PASSWORDS[user],
            error_cb=note,
            inbox_prefix=f"_INBOX.{user}",
            allow_reconnect=False,
        )

    async def until_refused(self, wanted: set[str]) -> set[str]:
        """Return what was refused, once that is all that was to be, or nothing more comes."""
        await self.client.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not wanted <= self.refused:  # noqa: ASYNC110 - refusals come on their own
                    await asyncio.sleep(0.01)
        return self.refused


@pytest.mark.parametrize("user", KINDS)
async def test_a_service_uses_only_what_is_its_own(server: NatsServer, user: str) -> None:
    tried = Tried()
    await tried.open(server.url, user)
    for subject in PUBLISHED:
        await tried.client.publish(subject, b"x")
    for subject in SUBSCRIBED:
        await tried.client.subscribe(subject)
    wanted = {f"publish {subject}".lower() for subject, users in PUBLISHED.items() if user not in users}
    wanted |= {
        f"subscription {subject}".lower() for subject, users in SUBSCRIBED.items() if user not in users
    }
    refused = await tried.until_refused(wanted)
    await tried.client.close()
    assert refused == wanted


@pytest.mark.parametrize("given", ["{}", '{"user":"gateway","pass":"wrong"}', '{"user":"nobody","pass":"x"}'])
async def test_without_credentials_nats_gives_nothing(server: NatsServer, given: str) -> None:
    host, port = server.url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"INFO")
        writer.write(f"CONNECT {given}\r\nPING\r\n".encode())
        assert b"Authorization Violation" in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_a_service_reaches_nats_with_its_password(server: NatsServer) -> None:
    access = NatsAccess("gateway", PASSWORDS["gateway"])
    bus = await NatsBus.connect(server.url, name="good", access=access)
    await bus.close()
    assert PASSWORDS["gateway"] not in repr(access)


async def test_the_operators_identity_may_do_everything(server: NatsServer) -> None:
    tried = Tried()
    await tried.open(server.url, OPERATOR)
    for subject in (*PUBLISHED, *SUBSCRIBED):
        await tried.client.publish(subject.replace("*", "x").replace(">", "x"), b"x")
    assert await tried.until_refused(set()) == set()
    await tried.client.close()


async def test_the_passwords_are_read_by_their_owner_only(tmp_path: Path) -> None:
    from danube_standalone.data_dir import DataDir  # noqa: PLC0415

    directory = DataDir.open(tmp_path / "data")
    try:
        made = {user: directory.nats_password(user) for user in KINDS}
        assert len(set(made.values())) == len(KINDS)
        assert made == {user: directory.nats_password(user) for user in KINDS}
        for user in KINDS:
            assert oct(directory.nats_password_file(user).stat().st_mode)[-3:] == "600"
    finally:
        directory.close()
