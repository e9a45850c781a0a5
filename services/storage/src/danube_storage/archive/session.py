"""The time in which this instance archives one bundle: what works on the bundle then shares this."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import BundleArchive
from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.log.port import BundleLog
from danube_common.metadata.lease import Lease
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_storage.archive.offsets import Offsets
from danube_storage.archive.state import change_archive_state
from danube_storage.segments.stores import Stores
from danube_storage.storage_metrics import StorageMetrics


@dataclass(frozen=True, slots=True)
class ArchivePorts:
    """What all sessions of a process reach the world through."""

    instance_id: str
    bus: Bus
    log: BundleLog
    metadata: MetadataStore
    catalogue: Catalogue
    stores: Stores
    metrics: StorageMetrics


@dataclass(eq=False)
class ArchiveSession:
    """One bundle under this instance's lease.

    Attributes:
        bundle: which.
        ports: shared with all sessions of the process.
        lease: check ``held`` right before anything that two archivers must not both do.
        cuts: the view of the bundle's catalogue.
        offsets: of each topic's next message, as of the newest cut; the archiver counts them.
        problems: what does not get on and why, by part; told by readiness.
    """

    bundle: Bundle
    ports: ArchivePorts
    lease: Lease
    cuts: Manifest
    offsets: Offsets = field(default_factory=Offsets)
    problems: dict[str, str] = field(default_factory=dict)

    async def save_offsets(self) -> None:
        """Write the offsets down, those of topics that are no more left out.

        To be done before a cut that they count is taken out of the catalogue or purged from the log while
        a shared segment of it is what tells its counts. Raises MetadataUnavailable.
        """
        self.offsets.retain(topic.topic_id for topic in self.ports.catalogue.topics_of(self.bundle))
        through, packed = self.offsets.through, self.offsets.packed

        def saved(archive: BundleArchive) -> BundleArchive:
            if archive.offsets_through >= through:
                return archive
            return msgspec.structs.replace(archive, offsets_through=through, offsets=packed)

        await change_archive_state(self.ports.metadata, self.bundle, saved)


BundleTask = Callable[[ArchiveSession], Awaitable[None]]
"""Works on a bundle for as long as its session lasts; cancelled when it ends."""
