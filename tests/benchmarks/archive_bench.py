"""What the storage benchmarks run on: real servers, logs filled with frames, an archiver, a reader."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from danube_common.archive.manifest import Manifest
from danube_common.bus.nats import NatsBus
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Layout, Topic, encode_record
from danube_common.log.jetstream import JetStreamLog
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.metadata.lease import Lease
from danube_common.model.bundle import Bundle, Family
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.wire.frame import encode_frame, make_frame_id
from danube_harness.platforms.service_process import ServiceProcess
from danube_harness.servers.nats_server import NatsServer
from danube_harness.servers.s3_server import BUCKET, REGION, S3Server
from danube_storage.archive.log_range import LogRange
from danube_storage.archive.seal_rules import SealRules
from danube_storage.archive.sealer import Sealer
from danube_storage.archive.segment_plan import PlannedSegment
from danube_storage.archive.segment_writer import SegmentWriter
from danube_storage.archive.session import ArchivePorts, ArchiveSession
from danube_storage.segments.s3 import S3Store
from danube_storage.segments.stores import Stores, archive_id, open_stores
from danube_storage.storage_metrics import StorageMetrics
from danube_topic_owner.catchup.history import History

MESSAGE_BYTES = 1024
MESSAGES_PER_FRAME = int(os.environ.get("DANUBE_BENCH_FRAME_MESSAGES", "16"))
PATIENCE_S = 120.0
POLL_S = 0.05
APPENDS_AT_ONCE = 64
LOG_BYTES_MAX = 3 << 30
INSTANCE_ID = "1"
PARTS_AT_ONCE = 4
PART_BYTES = 8 << 20


def file_bundle(number: int) -> Bundle:
    """A bundle whose log is on disk."""
    return Bundle(Family.FILE, number)


def topic_of(bundle: Bundle, topic_id: int, backend: StorageBackend) -> Topic:
    """The record of a topic of a bundle."""
    options = ReliableOptions(storage=backend, retention=Retention.UNTIL_ACK)
    schema = Schema("bench", SchemaKind.BYTES)
    return Topic(f"/default/t{topic_id}", topic_id, str(bundle), schema, Strategy(options), 0, 0)


@dataclass(frozen=True)
class ArchiveBench:
    """Servers and the ports of this process."""

    nats: NatsServer
    s3: S3Server
    directory: Path
    bus: NatsBus
    log: JetStreamLog
    metadata: JetStreamMetadata
    catalogue: Catalogue
    stores: Stores

    @property
    def data_dir(self) -> Path:
        """Where the segments on disk are."""
        return self.directory / "segments"

    @classmethod
    @asynccontextmanager
    async def open(
        cls, directory: Path, nats: NatsServer, s3: S3Server, bundles: int
    ) -> AsyncIterator[ArchiveBench]:
        """Connect to the servers and make ``bundles`` bundles."""
        bus = await NatsBus.connect(nats.url, name="bench")
        log = JetStreamLog(bus.connection, file_bytes_max=LOG_BYTES_MAX, memory_bytes_max=1 << 20)
        metadata = await JetStreamMetadata.open(bus.connection)
        await metadata.put(keys.LAYOUT, encode_record(Layout(bundles, 1)))
        catalogue = await Catalogue.open(metadata)
        stores = await open_stores(
            await archive_id(metadata),
            INSTANCE_ID,
            directory / "segments",
            s3_bucket=BUCKET,
            s3_endpoint_url=s3.endpoint,
            s3_region=REGION,
        )
        try:
            yield cls(nats, s3, directory, bus, log, metadata, catalogue, stores)
        finally:
            await stores.close()
            await catalogue.close()
            await metadata.close()
            await bus.close()

    async def add_topics(self, topics: Sequence[Topic]) -> None:
        """Write the records of topics."""
        slots = asyncio.Semaphore(APPENDS_AT_ONCE)

        async def add(topic: Topic) -> None:
            async with slots:
                await self.metadata.put(keys.topic_key(topic.topic_name), encode_record(topic))

        await asyncio.gather(*(add(topic) for topic in topics))
        await self.catalogue.see_topics()

    async def fill(self, bundle: Bundle, frames: Sequence[bytes]) -> None:
        """Append the frames, in any order."""
        await self.log.open(bundle)
        slots = asyncio.Semaphore(APPENDS_AT_ONCE)

        async def append(number: int, frame: bytes) -> None:
            async with slots:
                await self.log.append(bundle, frame, frame_id=make_frame_id(1, number), timeout_s=60)

        await asyncio.gather(*(append(number, frame) for number, frame in enumerate(frames)))

    async def archive(self, bundle: Bundle) -> tuple[Manifest, float]:
        """Archive the whole log, as the archiver of the bundle does.

        Returns the manifest, and the seconds that building the segments and making them durable took.
        """
        made_s = 0.0
        write = SegmentWriter.write

        async def timed(writer: SegmentWriter, log_range: LogRange, plan: Sequence[PlannedSegment]) -> Any:
            nonlocal made_s
            began = time.perf_counter()
            try:
                return await write(writer, log_range, plan)
            finally:
                made_s += time.perf_counter() - began

        ports = ArchivePorts(
            INSTANCE_ID,
            self.bus,
            self.log,
            self.metadata,
            self.catalogue,
            self.stores,
            StorageMetrics(Metrics("storage", INSTANCE_ID)),
        )
        lease = await Lease.acquire(self.metadata, keys.archiver_key(bundle), b"{}", 60.0)
        manifest = await Manifest.open(self.metadata, bundle)
        sealer = Sealer(ArchiveSession(bundle, ports, lease, manifest), SealRules())
        await sealer.take_over()
        last = (await self.log.bounds(bundle)).last_sequence
        with mock.patch.object(SegmentWriter, "write", timed):
            while manifest.archived_through < last:
                await sealer.seal(last)
        await lease.release()
        return manifest, made_s

    async def bare_s3(self) -> S3Store:
        """A place in the bucket beside the archive's."""
        return await S3Store.connect(BUCKET, prefix="bare/", endpoint_url=self.s3.endpoint, region=REGION)

    def history(self, manifest: Manifest) -> History:
        """A reader of archived messages."""
        return History(self.bus, self.catalogue, manifest)

    async def until(self, condition: Callable[[], bool]) -> None:
        """A mirror of the metadata store has shown ``condition``, which has no event of its own."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def storage_process(self) -> AsyncIterator[ServiceProcess]:
        """The service itself, over the segments of this bench."""
        flags = ["--nats-url", self.nats.url, "--data-dir", str(self.data_dir), "--s3-bucket", BUCKET]
        flags += ["--s3-endpoint-url", self.s3.endpoint, "--s3-region", REGION, "--seal-age-s", "1"]
        process = ServiceProcess("storage", "storage", INSTANCE_ID, self.directory, flags)
        await process.start()
        try:
            await self.until(lambda: bool(self.catalogue.instances("storage")))
            yield process
        finally:
            if process.running:
                await process.stop()


def frames_of(topic: Topic, size_bytes: int) -> list[bytes]:
    """About ``size_bytes`` of messages for one topic."""
    numbers = itertools.count()
    payload = os.urandom(MESSAGE_BYTES - 8)
    frames = []
    for number in range(size_bytes // (MESSAGE_BYTES * MESSAGES_PER_FRAME)):
        messages = [next(numbers).to_bytes(8, "big") + payload for _ in range(MESSAGES_PER_FRAME)]
        frames.append(encode_frame(1, number, [(topic.topic_id, messages)]))
    return frames


def peak_rss_bytes(pid: int) -> tuple[int, int]:
    """(now, at most so far) of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.startswith("Vm")}
    return int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024


async def copy_durably(source: Path, target: Path) -> None:
    """``cp``, then what it leaves out: fsync of every file and directory."""
    process = await asyncio.create_subprocess_exec("cp", "-r", source, target)
    assert await process.wait() == 0, f"cp failed, {sys.platform}"
    await asyncio.to_thread(_sync_tree, target)


def _sync_tree(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
