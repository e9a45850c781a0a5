"""The ports of a service, connected to their real adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from danube_common.bus.nats import NatsBus
from danube_common.bus.port import Bus
from danube_common.journal.jetstream import JetStreamJournal
from danube_common.journal.port import StateJournal
from danube_common.log.jetstream import JetStreamLog
from danube_common.log.port import BundleLog
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.metadata.port import MetadataStore
from danube_common.nats.connection import Connection
from danube_common.runtime.config import ServiceConfig
from danube_common.runtime.nats_access import nats_access
from danube_common.runtime.service import Runtime
from danube_common.tracing.tracer import Tracer


@dataclass(frozen=True, slots=True)
class Ports:
    """The adapters through which a service reaches the world outside its process.

    ``connection`` is NATS itself, for what no port offers. ``tracer`` records spans, if there are any.
    """

    bus: Bus
    log: BundleLog
    journal: StateJournal
    metadata: MetadataStore
    connection: Connection
    tracer: Tracer | None = None


@asynccontextmanager
async def open_ports(
    runtime: Runtime, config: ServiceConfig, *, metadata_vital: bool = True
) -> AsyncIterator[Ports]:
    """Connect to NATS and to the metadata store, and add both to readiness.

    Args:
        runtime: whose ports they are.
        config: where NATS and the metadata store are.
        metadata_vital: whether the service is unready while the metadata store does not answer.

    Raises:
        BusUnavailable: no NATS server answers.
        MetadataUnavailable: the metadata store does not answer.
        InvalidInput: a certificate, key or password file cannot be read.
    """
    async with AsyncExitStack() as opened:
        name = f"danube-{runtime.service}-{runtime.instance_id}"
        bus = await NatsBus.connect(
            config.nats_urls, name=name, access=nats_access(config), tracer=runtime.tracer
        )
        opened.push_async_callback(bus.close)
        runtime.add_check("bus", lambda: None if bus.connected else "not connected to NATS")
        metadata = await _open_metadata(config, bus.connection)
        opened.push_async_callback(metadata.close)
        runtime.add_check(
            "metadata",
            lambda: None if metadata.connected else "the store does not answer",
            vital=metadata_vital,
        )
        yield Ports(
            bus=bus,
            log=JetStreamLog(
                bus.connection,
                file_bytes_max=config.bundle_log.file_bytes_max,
                memory_bytes_max=config.bundle_log.memory_bytes_max,
                replicas=config.nats_replicas,
            ),
            journal=JetStreamJournal(
                bus.connection, replicas=config.nats_replicas, bytes_max=config.journal_bytes_max
            ),
            metadata=metadata,
            connection=bus.connection,
            tracer=runtime.tracer,
        )


async def _open_metadata(config: ServiceConfig, connection: Connection) -> MetadataStore:
    if not config.etcd_endpoints:
        return await JetStreamMetadata.open(connection, replicas=config.nats_replicas)
    # Its library loads only if used.
    from danube_common.metadata.etcd import EtcdMetadata  # noqa: PLC0415
    from danube_common.runtime.etcd_access import etcd_access  # noqa: PLC0415

    access = etcd_access(config)
    return await EtcdMetadata.connect(
        config.etcd_endpoints, username=access.user, password=access.password, tls=access.tls
    )
