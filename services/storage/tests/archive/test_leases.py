"""The way from the log to the catalogue, on a real NATS server, real directories and real S3 servers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from danube_common.archive.records import SHARED
from danube_common.bus.nats import NatsBus
from danube_common.cluster import keys
from danube_common.cluster.membership import register
from danube_common.cluster.records import Instance
from danube_common.errors import StoreFull
from danube_common.log.jetstream import JetStreamLog
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.model.strategy import StorageBackend
from danube_common.wire.frame import encode_frame
from danube_common.wire.replica import REPLICA, replica_subject
from danube_harness.memory.segments import MemoryStore
from danube_harness.servers.nats_server import NatsServer
from danube_harness.servers.s3_server import BUCKET, S3Server
from danube_harness.services.archive_harness import BUNDLE, PATIENCE_S, S3, ArchiveHarness, read_segment
from danube_storage.archive.archiver import Archiver
from danube_storage.archive.leases import ArchiveLeases
from danube_storage.archive.replicas import ReplicaServer
from danube_storage.archive.seal_rules import SealRules
from danube_storage.segments.port import SegmentStore
from danube_storage.segments.stores import Stores, archive_id, open_stores

RULES = SealRules(seal_age_s=1.0, seal_bytes_max=1 << 20, own_segment_bytes_min=5000)
POLL_S = 0.05
LEASE_S = 3.0


class Site:
    """A NATS server with one bundle, and the storage instances that archive it."""

    def __init__(self, harness: ArchiveHarness, directory: Path, stack: AsyncExitStack) -> None:
        self.harness = harness
        self.directory = directory
        self.stack = stack

    async def stores(self, instance_id: str, s3_endpoint_url: str = "") -> Stores:
        stores = await open_stores(
            await archive_id(self.harness.metadata),
            instance_id,
            self.directory,
            s3_bucket=BUCKET if s3_endpoint_url else "",
            s3_endpoint_url=s3_endpoint_url,
        )
        self.stack.push_async_callback(stores.close)
        return stores

    async def storage(self, instance_id: str, stores: Stores, rules: SealRules = RULES) -> Storage:
        storage = Storage(self.harness, instance_id, stores, rules)
        await storage.start()
        self.stack.push_async_callback(storage.stop)
        return storage


class Storage:
    """What a storage process does, without the process."""

    def __init__(self, harness: ArchiveHarness, instance_id: str, stores: Stores, rules: SealRules) -> None:
        self.harness = harness
        self.instance_id = instance_id
        self.stores = stores
        self.archiving = ArchiveLeases(
            harness.ports(instance_id, stores),
            [Archiver(rules, seals_at_once=1, poll_s=POLL_S).archive],
            lease_ttl_s=LEASE_S,
            reconcile_s=POLL_S,
        )
        self._ends = AsyncExitStack()

    async def start(self) -> None:
        lease = await register(self.harness.metadata, Instance(self.instance_id, "storage", ""))
        self._ends.push_async_callback(lease.release)
        replica_server = ReplicaServer(self.harness.log, self.stores.of(StorageBackend.DISK))
        serving = await self.harness.bus.serve(
            replica_subject(self.instance_id), REPLICA.handler(replica_server.answer)
        )
        self._ends.push_async_callback(serving.close)
        task = asyncio.create_task(self.archiving.run())

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._ends.push_async_callback(end)

    async def stop(self) -> None:
        await self._ends.aclose()

    async def until_problem(self, matches: Callable[[str | None], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not matches(self.archiving.problem()):  # noqa: ASYNC110 - readiness is asked for
                await asyncio.sleep(0.01)


@pytest.fixture
async def site(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        bus = await NatsBus.connect(nats_server.url, name="test")
        stack.push_async_callback(bus.close)
        metadata = await JetStreamMetadata.open(bus.connection)
        stack.push_async_callback(metadata.close)
        log = JetStreamLog(bus.connection, file_bytes_max=64 << 20, memory_bytes_max=1 << 20)
        harness = await ArchiveHarness.open(bus, log, metadata)
        stack.push_async_callback(harness.close)
        yield Site(harness, tmp_path / "segments", stack)


async def test_what_was_published_is_in_segments_and_purged_from_the_log(site: Site) -> None:
    harness = site.harness
    busy, quiet = await harness.topic("busy"), await harness.topic("quiet")
    last = 0
    for number in range(40):
        last = await harness.publish((busy, [b"b%d" % number * 50] * 3), (quiet, [b"q%d" % number]))
    stores = await site.stores("7")
    storage = await site.storage("7", stores)
    await harness.archived(last)
    await harness.purged(last)
    more = await harness.publish((quiet, [b"later"]), (busy, [b"too"]))
    await harness.archived(more)
    await harness.check(stores)
    assert {segment.topic_id for segment in harness.manifest.all()[0].segments} == {busy.topic_id, SHARED}
    assert storage.archiving.problem() is None


async def test_many_quiet_topics_become_shared_segments_and_the_log_is_purged(site: Site) -> None:
    harness = site.harness
    topics = [await harness.topic(f"t{number}") for number in range(300)]
    last = 0
    for start in range(0, len(topics), 3):
        last = await harness.publish(*((topic, [b"now and then"]) for topic in topics[start : start + 3]))
    stores = await site.stores("7")
    await site.storage("7", stores)
    await harness.archived(last)
    await harness.purged(last)
    segments = [segment for entry in harness.manifest.all() for segment in entry.segments]
    assert {segment.topic_id for segment in segments} == {SHARED}
    assert len(segments) == len(harness.manifest.all())
    await harness.check(stores)


async def test_a_topics_messages_outlive_the_archiver_that_counted_them(site: Site) -> None:
    harness = site.harness
    topic = await harness.topic("t")
    stores = await site.stores("7")
    for round_number in range(3):
        last = await harness.publish((topic, [b"%d" % round_number] * 3))
        storage = await site.storage("7", stores)
        await harness.archived(last)
        await storage.stop()
    await harness.check(stores)


async def test_the_storage_directory_deleted_for_s3_topics_loses_nothing(
    site: Site, s3_server: S3Server
) -> None:
    harness = site.harness
    topic, quiet = await harness.topic("t", S3), await harness.topic("quiet", S3)
    last = await harness.publish((topic, [b"m" * 3000] * 3), (quiet, [b"q"]))
    stores = await site.stores("7", s3_server.endpoint)
    storage = await site.storage("7", stores)
    await harness.archived(last)
    await storage.stop()
    shutil.rmtree(site.directory, ignore_errors=True)
    another = await site.stores("8", s3_server.endpoint)
    await site.storage("8", another)
    last = await harness.publish((topic, [b"more"]))
    await harness.archived(last)
    await harness.purged(last)
    await harness.check(another)


async def test_while_s3_is_down_the_log_keeps_everything_and_then_it_catches_up(
    site: Site, s3_server: S3Server
) -> None:
    harness = site.harness
    topic = await harness.topic("t", S3)
    stores = await site.stores("7", s3_server.endpoint)
    await s3_server.kill()
    storage = await site.storage("7", stores)
    last = await harness.publish((topic, [b"m"] * 3))
    await storage.until_problem(lambda problem: problem is not None and "S3" in problem)
    assert (await harness.log.bounds(BUNDLE)).first_sequence == 1
    assert not harness.manifest.all()
    await s3_server.restart()
    await harness.archived(last)
    await harness.purged(last)
    await storage.until_problem(lambda problem: problem is None)
    await harness.check(stores)


async def test_a_topic_in_s3_without_a_bucket_stays_in_the_log_and_readiness_says_why(site: Site) -> None:
    harness = site.harness
    topic = await harness.topic("t", S3)
    storage = await site.storage("7", await site.stores("7"))
    await harness.publish((topic, [b"m"]))
    await storage.until_problem(lambda problem: problem is not None and "--s3-bucket" in problem)
    assert (await harness.log.bounds(BUNDLE)).first_sequence == 1
    assert not harness.manifest.all()


class FullStore(MemoryStore):
    """Has no room until it is told so; keeps what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        if self.full:
            raise StoreFull("the disk is full")
        await super().put(key, chunks)


async def test_while_the_disk_is_full_the_log_keeps_everything_and_then_it_catches_up(site: Site) -> None:
    harness = site.harness
    topic = await harness.topic("t")
    disk = FullStore()
    stores = Stores({StorageBackend.DISK: disk})
    storage = await site.storage("7", stores)
    last = await harness.publish((topic, [b"m"] * 3))
    await storage.until_problem(lambda problem: problem is not None and "full" in problem)
    assert not harness.manifest.all()
    disk.full = False
    await harness.archived(last)
    await storage.until_problem(lambda problem: problem is None)
    await harness.check(stores)


async def test_two_replicas_are_the_same_bytes_on_two_instances_before_the_manifest_entry_is_stored(
    site: Site,
) -> None:
    harness = site.harness
    rules = SealRules(1.0, 1 << 20, 5000, replicas=2)
    busy, quiet = await harness.topic("busy"), await harness.topic("quiet")
    last = await harness.publish((busy, [b"m" * 3000] * 3), (quiet, [b"q"]))
    stores: Mapping[str, Stores] = {name: await site.stores(name) for name in ("7", "8")}
    first = await site.storage("7", stores["7"], rules)
    await first.until_problem(lambda problem: problem is not None and "2 copies are wanted" in problem)
    assert not harness.manifest.all()
    await site.storage("8", stores["8"], rules)
    await harness.archived(last)
    for segment in harness.manifest.all()[0].segments:
        assert set(segment.holders) == {"7", "8"}
        assert len({await _content(one.of(segment.backend), segment.key) for one in stores.values()}) == 1
    await harness.check(stores["8"])


async def test_a_dead_archivers_bundle_is_taken_by_another(site: Site) -> None:
    harness = site.harness
    topic = await harness.topic("t")
    stores = await site.stores("7")
    one, other = await site.storage("7", stores), await site.storage("8", stores)
    last = await harness.publish((topic, [b"m"]))
    await harness.archived(last)
    held = one if BUNDLE in one.archiving.sessions else other
    await held.stop()
    last = await harness.publish((topic, [b"again"]))
    await harness.archived(last)
    await harness.check(stores)


async def test_a_corrupt_frame_is_kept_aside_and_what_is_around_it_is_archived(site: Site) -> None:
    harness = site.harness
    topic = await harness.topic("t")
    await harness.publish((topic, [b"before"]))
    damaged = bytearray(encode_frame(1, 999, [(topic.topic_id, [b"damaged"])]))
    damaged[-1] ^= 1
    await harness.log.append(BUNDLE, bytes(damaged), frame_id="damaged", timeout_s=PATIENCE_S)
    last = await harness.publish((topic, [b"after"]))
    stores = await site.stores("7")
    storage = await site.storage("7", stores)
    await harness.archived(last)
    held = await harness.archive(stores)
    assert [message for _, message in held[topic.topic_id]] == [b"before", b"after"]
    disk = stores.of(StorageBackend.DISK)
    (key,) = await disk.list(f"{BUNDLE}/corrupt/")
    assert await disk.read(key, 0, len(damaged)) == damaged
    problem = storage.archiving.problem()
    assert problem is not None
    assert "frame 2" in problem


async def test_two_clusters_with_one_directory_keep_apart(site: Site) -> None:
    first = await archive_id(site.harness.metadata)
    assert await archive_id(site.harness.metadata) == first
    await site.harness.metadata.delete(keys.ARCHIVE_ID)
    assert await archive_id(site.harness.metadata) != first


async def _content(store: SegmentStore, key: str) -> bytes:
    assert await read_segment(store, key)
    return await store.read(key, 0, await store.size(key))
