"""The storage process: archives bundles of the log as segments on disk or in S3, and serves them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from pydantic import Field

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OwnerClient
from danube_common.runtime.config import ServiceConfig
from danube_common.runtime.ports import open_ports
from danube_common.runtime.registration import presence
from danube_common.runtime.section import Seconds
from danube_common.runtime.service import Runtime
from danube_common.wire.replica import REPLICA, replica_subject
from danube_storage.archive.archiver import Archiver
from danube_storage.archive.leases import ArchiveLeases
from danube_storage.archive.replicas import ReplicaServer
from danube_storage.archive.seal_rules import SealRules
from danube_storage.archive.session import ArchivePorts
from danube_storage.archive.sweep import Sweep
from danube_storage.reading.read_service import serve_reads
from danube_storage.repair.metrics import RepairMetrics
from danube_storage.repair.mover import SegmentMover
from danube_storage.repair.pace import BytePace
from danube_storage.repair.repair import Repair
from danube_storage.repair.repair_service import serve_repair
from danube_storage.retention.loop import RetentionLoop
from danube_storage.retention.metrics import RetentionMetrics
from danube_storage.segments.stores import archive_id, open_stores
from danube_storage.storage_metrics import StorageMetrics

SERVICE: Final = "storage"
PING_SUBJECT: Final = "danube.storage.ping"
DATA_DIR_DEFAULT: Final = Path("data/segments")


class StorageConfig(ServiceConfig):
    """Settings: where segments are kept, when the log is sealed, when data is deleted."""

    data_dir: Path = Field(
        default=DATA_DIR_DEFAULT,
        description="directory of segments on disk; several instances and clusters may share it",
    )
    s3_bucket: str = Field(default="", description="bucket of topics with storage=s3; empty: none")
    s3_prefix: str = Field(
        default="", description="prefix of all keys in the bucket; empty or ending with a slash"
    )
    s3_endpoint_url: str = Field(
        default="", description="endpoint of an S3-compatible store; empty: Amazon S3"
    )
    s3_region: str = Field(
        default="", description="region of the bucket; empty: from AWS's environment and profile"
    )
    replicas: int = Field(default=1, ge=1, le=5, description="storage instances that keep each disk segment")
    replica_absent_s: float = Field(
        default=600.0,
        ge=1,
        le=30 * 24 * 3600,
        description="seconds a storage instance may be away until its segments are copied anew from replicas",
    )
    copy_bytes_per_s: int = Field(
        default=32 << 20,
        ge=1 << 10,
        description="most bytes a second that this instance copies from other instances to replace copies",
    )
    scrub_period_s: float = Field(
        default=7 * 24 * 3600.0,
        ge=1,
        le=365 * 24 * 3600,
        description="seconds in which every segment is read and verified once, also if nobody asks for it",
    )
    scrub_bytes_per_s: int = Field(
        default=8 << 20, ge=1 << 10, description="most bytes a second that are read to verify segments"
    )
    seal_age_s: float = Field(
        default=600.0,
        ge=1,
        le=24 * 3600,
        description="seconds after which messages are moved from the log to segments, however few they are",
    )
    cut_bytes_max: int = Field(
        default=64 << 20,
        ge=1 << 10,
        le=256 << 20,
        description="most bytes of a bundle's log that are sealed at once; they are held in memory",
    )
    own_segment_bytes_min: int = Field(
        default=256 << 10,
        ge=1,
        description="a topic with fewer bytes in a sealed range shares a segment with other such topics",
    )
    concurrent_cuts_max: int = Field(
        default=1,
        ge=1,
        le=16,
        description="bundles sealed at once, each holding up to cut_bytes_max in memory",
    )
    store_away_s: float = Field(
        default=60.0,
        ge=1,
        le=24 * 3600,
        description="seconds a store may fail until its segments are kept in the other store meanwhile",
    )
    retention_interval_s: Seconds = Field(
        default=10.0, le=3600, description="seconds between two retention passes over a bundle"
    )
    delete_delay_s: float = Field(
        default=60.0,
        ge=0,
        le=24 * 3600,
        description="seconds between the decision to delete a segment and its deletion; readers may finish",
    )
    forget_after_s: float = Field(
        default=24 * 3600.0,
        ge=0,
        description="seconds that the manifest lists each deleted segment; then only their sums are kept",
    )


@asynccontextmanager
async def start(runtime: Runtime, config: StorageConfig) -> AsyncIterator[None]:
    """Run the service until the context ends. Pings are answered with the instance id."""
    pings = runtime.metrics.plain_counter("storage_pings", "Pings answered.")

    async def ping(_request: bytes) -> bytes:
        pings.inc()
        return runtime.instance_id.encode()

    async with open_ports(runtime, config) as ports:
        stores = await open_stores(
            await archive_id(ports.metadata),
            runtime.instance_id,
            config.data_dir,
            s3_bucket=config.s3_bucket,
            s3_prefix=config.s3_prefix,
            s3_endpoint_url=config.s3_endpoint_url or None,
            s3_region=config.s3_region or None,
        )
        catalogue = await Catalogue.open(ports.metadata)
        metrics = StorageMetrics(runtime.metrics)
        rules = SealRules(
            config.seal_age_s,
            config.cut_bytes_max,
            config.own_segment_bytes_min,
            config.replicas,
            config.store_away_s,
        )
        archiver = Archiver(rules, seals_at_once=config.concurrent_cuts_max)
        sweep = Sweep(ports.metadata, metrics)
        retention = RetentionLoop(
            OwnerClient(ports.bus, catalogue),
            RetentionMetrics(runtime.metrics),
            interval_s=config.retention_interval_s,
            delete_delay_s=config.delete_delay_s,
            forget_after_s=config.forget_after_s,
            memory_bytes_max=config.bundle_log.memory_bytes_max,
        )
        repair_metrics = RepairMetrics(runtime.metrics)
        repair = Repair(repair_metrics, replicas=config.replicas, absent_s=config.replica_absent_s)
        mover = SegmentMover(repair_metrics, BytePace(config.copy_bytes_per_s), replicas=config.replicas)
        archive_ports = ArchivePorts(
            runtime.instance_id,
            ports.bus,
            ports.log,
            ports.metadata,
            catalogue,
            stores,
            metrics,
            ports.tracer,
        )
        leases = ArchiveLeases(
            archive_ports,
            [archiver.archive, sweep.sweep_s3, retention.retain, repair.repair, mover.move],
        )
        runtime.add_check("archive", leases.problem, vital=False)
        replicas = REPLICA.handler(ReplicaServer(ports.log, stores.disk).answer)
        subscriptions = [
            await ports.bus.serve(PING_SUBJECT, ping),
            await ports.bus.serve(replica_subject(runtime.instance_id), replicas),
        ]
        try:
            async with (
                serve_reads(runtime, ports.bus, ports.metadata, stores) as reading,
                serve_repair(
                    runtime,
                    archive_ports,
                    reading,
                    repair_metrics,
                    copy_bytes_per_s=config.copy_bytes_per_s,
                    scrub_period_s=config.scrub_period_s,
                    scrub_bytes_per_s=config.scrub_bytes_per_s,
                ),
                presence(runtime, ports.metadata, backends=tuple(sorted(stores.configured))),
            ):
                tasks = (
                    runtime.spawn(leases.run(), "archiving"),
                    runtime.spawn(sweep.sweep_disk(catalogue, stores.disk, runtime.instance_id), "sweep"),
                )
                yield
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        finally:
            for subscription in subscriptions:
                await subscription.close()
            await catalogue.close()
            await stores.close()
