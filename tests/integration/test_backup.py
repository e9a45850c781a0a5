"""A backup that was made under load brings a cluster back after the loss of everything."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner, Result

from danube_admin_cli.__main__ import app
from danube_client import Client, Reliable, Retention, Start, Storage, SubscriptionType, connect
from danube_harness.platforms.admin_calls import ask_admin, describe_topic, until_described
from danube_harness.platforms.standalone import Platform
from danube_harness.servers.s3_server import BUCKET, S3Kind, S3Server
from danube_proto import danube_admin_pb2 as admin_wire
from danube_proto import danube_platform_pb2 as platform_wire
from danube_proto import danube_schema_pb2 as schema_wire

SETTINGS: Final = {"DANUBE_STORAGE_SEAL_AGE_S": "1"}
NUMBERS: Final = range(40)
SINCE: Final = range(40, 44)
KEPT: Final = Reliable(Storage.DISK, retention=Retention.UNTIL_EXPIRED, retention_period_s=3600)
KEPT_AS_TEXT: Final = "reliable:storage=disk,retention=expire,retention_period=3600"
PLAIN, PARTS, FORMS, LOAD = "/depot/plain", "/depot/parts", "/depot/forms", "/depot/load"
PARTITIONS: Final = (f"{PARTS}-part-0", f"{PARTS}-part-1")
TYPES: Final = (SubscriptionType.EXCLUSIVE, SubscriptionType.FAILOVER, SubscriptionType.SHARED)
KEYED: Final = "keyed"
READ_S_MAX: Final = 60.0


def admin(platform: Platform, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--endpoint", f"http://{platform.admin_addr}"])


async def told(platform: Platform, *arguments: str) -> Mapping[str, Any]:
    """What a command says as JSON; it must succeed."""
    ended = await asyncio.to_thread(admin, platform, *arguments, "-o", "json")
    assert ended.exit_code == 0, ended.stderr
    answer: Mapping[str, Any] = json.loads(ended.stdout)
    return answer


def client(platform: Platform, *, streaming: bool = False) -> Client:
    return connect(f"http://{platform.gateway_addr}", streaming=streaming)


async def publish(platform: Platform, topic: str, numbers: range) -> None:
    async with (
        client(platform) as connected,
        connected.producer(topic, name="w", strategy=KEPT) as producer,
    ):
        for number in numbers:
            await producer.send(str(number))


async def read(
    platform: Platform,
    topic: str,
    subscription: str,
    count: int,
    *,
    kind: SubscriptionType = SubscriptionType.SHARED,
    acked: range | None = None,
) -> list[int]:
    """Receive so many messages; acknowledge those in ``acked``, or all."""
    taken: list[int] = []
    async with (
        asyncio.timeout(READ_S_MAX),
        client(platform, streaming=kind is SubscriptionType.KEY_SHARED) as connected,
        connected.consumer(
            topic, subscription, name="r", type=kind, initial_position=Start.earliest()
        ) as consumer,
    ):
        while len(taken) < count:
            message = await anext(consumer)
            taken.append(int(message.payload))
            if acked is None or taken[-1] in acked:
                await message.ack()
    return taken


CREATED: Final[tuple[tuple[str, Message, type[Message]], ...]] = (
    (
        "/danube_admin.NamespaceAdmin/CreateNamespace",
        admin_wire.NamespaceRequest(name="depot"),
        admin_wire.NamespaceResponse,
    ),
    (
        "/danube_platform.PolicyAdmin/SetNamespacePolicies",
        platform_wire.SetNamespacePoliciesRequest(
            namespace="depot", policies=platform_wire.Policies(max_message_size=4321)
        ),
        platform_wire.PoliciesResponse,
    ),
    (
        "/danube_admin.TopicAdmin/CreateTopic",
        admin_wire.NewTopicRequest(
            name=FORMS, schema_type="json", schema_data='{"type": "object"}', dispatch_strategy="reliable"
        ),
        admin_wire.TopicResponse,
    ),
    (
        "/danube_admin.TopicAdmin/CreateTopic",
        admin_wire.NewTopicRequest(name=LOAD, schema_type="bytes", dispatch_strategy=KEPT_AS_TEXT),
        admin_wire.TopicResponse,
    ),
    (
        "/danube_platform.PartitionAdmin/CreatePartitions",
        platform_wire.CreatePartitionsRequest(
            topic=PARTS, partitions=2, schema_type="bytes", dispatch_strategy=KEPT_AS_TEXT
        ),
        platform_wire.CreatePartitionsResponse,
    ),
    (
        "/danube_schema.SchemaRegistry/RegisterSchema",
        schema_wire.RegisterSchemaRequest(
            subject="orders", schema_type="json_schema", schema_definition=b'{"type": "object"}'
        ),
        schema_wire.RegisterSchemaResponse,
    ),
    (
        "/danube_admin.SecurityAdmin/CreateBinding",
        admin_wire.CreateBindingRequest(
            binding=admin_wire.BindingDefinition(
                id="b", principal_type="user", principal_name="al", role_names=["viewer"], scope="cluster"
            )
        ),
        admin_wire.BindingResponse,
    ),
)
"""What is no message and no cursor."""


async def everything(platform: Platform) -> list[object]:
    """What the platform tells of topics, cursors, schemas, policies and security objects."""
    at = [platform.admin_addr]
    found: list[object] = []
    for topic in (PLAIN, *PARTITIONS, FORMS):
        described = await until_described(at, topic, lambda _: True)
        found.append(
            (
                *(described.topic_id, described.bundle, described.created_ms, described.schema_data),
                described.policies,
                [
                    (one.name, one.type, one.mark_delete, one.backlog)
                    for one in sorted(described.subscriptions, key=lambda one: one.name)
                ],
            )
        )
    for method, request, answer in (
        (
            "/danube_schema.SchemaRegistry/GetLatestSchema",
            schema_wire.GetLatestSchemaRequest(subject="orders"),
            schema_wire.GetSchemaResponse,
        ),
        (
            "/danube_admin.SecurityAdmin/ListBindings",
            admin_wire.ListBindingsRequest(scope="cluster"),
            admin_wire.BindingListResponse,
        ),
    ):
        found.append((await ask_admin(at, method, request, answer)).SerializeToString())
    return found


async def until_backlog(platform: Platform, topics: Sequence[str], backlog: int) -> None:
    """Wait until all acknowledgements have reached the owner."""
    async with asyncio.timeout(READ_S_MAX):
        while True:
            described = [await describe_topic([platform.admin_addr], topic) for topic in topics]
            if sum(one.backlog for topic in described for one in topic.subscriptions) == backlog:
                return
            await asyncio.sleep(0.1)  # what another process does has no event here


class Load:
    """Publishes numbers one by one until it is stopped; one subscription of the topic follows."""

    def __init__(self, platform: Platform) -> None:
        self.sent = 0
        self.acked = -1
        self._tasks = [asyncio.create_task(self._publish(platform)), asyncio.create_task(self._eat(platform))]

    async def _publish(self, platform: Platform) -> None:
        async with (
            client(platform) as connected,
            connected.producer(LOAD, name="l", strategy=KEPT) as producer,
        ):
            while True:
                await producer.send(str(self.sent))
                self.sent += 1

    async def _eat(self, platform: Platform) -> None:
        async with (
            client(platform) as connected,
            connected.consumer(LOAD, "eater", name="e") as consumer,
        ):
            async for message in consumer:
                await message.ack()
                self.acked = int(message.payload)

    async def reach(self, sent: int) -> None:
        async with asyncio.timeout(READ_S_MAX):
            while self.sent < sent or self.acked < 0:
                for task in self._tasks:
                    assert not task.done(), task
                await asyncio.sleep(0.02)  # two tasks make progress meanwhile

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture(params=["directory", "s3"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """Where backups are kept."""
    if request.param == "directory":
        yield str(tmp_path / "backups")
        return
    (tmp_path / "s3").mkdir()
    async with S3Server.run(S3Kind.MOTO, tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
        yield f"s3://{BUCKET}/danube/backups"


@pytest.mark.timeout(240)
@pytest.mark.acceptance
async def test_a_backup_made_under_load_brings_everything_back_after_a_total_loss(
    tmp_path: Path, place: str
) -> None:
    with Platform.run(tmp_path / "first", environment=SETTINGS) as platform:
        for method, request, answer in CREATED:
            await ask_admin([platform.admin_addr], method, request, answer)
        await publish(platform, PLAIN, NUMBERS[:20])
        await until_described([platform.admin_addr], PLAIN, lambda topic: topic.archived_through > 0)
        await publish(platform, PLAIN, NUMBERS[20:])
        await publish(platform, PARTS, NUMBERS)
        acked, left = range(0, len(NUMBERS), 2), list(range(1, len(NUMBERS), 2))
        for kind in TYPES:
            got = await read(platform, PLAIN, kind.name, len(NUMBERS), kind=kind, acked=acked)
            assert got == list(NUMBERS)
        kind = SubscriptionType.KEY_SHARED
        assert len(await read(platform, PLAIN, KEYED, len(NUMBERS), kind=kind, acked=acked)) == len(NUMBERS)
        assert len(await read(platform, PARTS, "s", len(NUMBERS), acked=acked)) == len(NUMBERS)
        await until_backlog(platform, (PLAIN,), len(left) * (len(TYPES) + 1))
        await until_backlog(platform, PARTITIONS, len(left))
        before = await everything(platform)

        load = Load(platform)
        await load.reach(150)
        first = await told(platform, "backup", "create", place)
        await load.reach(load.sent + 60)
        sent_before, acked_before = load.sent, load.acked
        await load.reach(load.sent + 40)
        second = await told(platform, "backup", "create", place)
        acked_after = load.acked
        assert load.sent > sent_before, "the load has stopped"
        await load.stop()
        assert first["segments_copied"] > 0
        assert second["segments"] > second["segments_copied"], "nothing was taken from the first backup"
        assert (await told(platform, "backup", "verify", place))["damaged"] == 0
        refused = admin(platform, "backup", "restore", place, "--yes")
        assert refused.exit_code == 1
        assert "this platform runs" in refused.stderr
    shutil.rmtree(tmp_path / "first")

    restored = tmp_path / "second"
    with Platform.run(restored, environment=SETTINGS, arguments=["--restore"]) as platform:
        done = await told(platform, "backup", "restore", place, "--name", second["name"], "--yes")
        assert done["records"] > 0
    with Platform.run(restored, environment=SETTINGS) as platform:
        assert await everything(platform) == before
        await publish(platform, PLAIN, SINCE)
        await publish(platform, PARTS, SINCE)
        expected = [*left, *SINCE]
        for kind in TYPES:
            assert await read(platform, PLAIN, kind.name, len(expected), kind=kind) == expected
        keyed = await read(platform, PLAIN, KEYED, len(expected), kind=SubscriptionType.KEY_SHARED)
        assert sorted(keyed) == expected
        assert sorted(await read(platform, PARTS, "s", len(expected))) == expected

        described = await describe_topic([platform.admin_addr], LOAD)
        assert not described.owner_problem
        await publish(platform, LOAD, range(10**6, 10**6 + 1))
        history: list[int] = []
        async with (
            asyncio.timeout(READ_S_MAX),
            client(platform) as connected,
            connected.consumer(LOAD, "all", name="r", initial_position=Start.earliest()) as consumer,
        ):
            while not history or history[-1] != 10**6:
                history.append(int((await anext(consumer)).payload))
        stored = history[:-1]
        assert stored == list(range(len(stored)))
        assert len(stored) >= sent_before
        (again,) = await read(platform, LOAD, "eater", 1)
        assert acked_before < again <= acked_after + 1 or again == 10**6
