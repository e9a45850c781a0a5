"""State shared by the tasks that archive one bundle while this instance holds its lease."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import structlog

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import BundleArchive
from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.errors import DanubeError
from danube_common.log.port import BundleLog
from danube_common.metadata.lease import Lease
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.producer_sequences import ProducerSequences
from danube_common.model.strategy import StorageBackend
from danube_common.tracing.tracer import Tracer
from danube_storage.archive.log_range import LogRange
from danube_storage.archive.offsets import Offsets
from danube_storage.archive.state import change_archive_state
from danube_storage.segments.stores import Stores
from danube_storage.storage_metrics import StorageMetrics

KIND = "storage"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ArchivePorts:
    """The ports that all sessions of a process share."""

    instance_id: str
    bus: Bus
    log: BundleLog
    metadata: MetadataStore
    catalogue: Catalogue
    stores: Stores
    metrics: StorageMetrics
    tracer: Tracer | None = None

    def live_instances(self) -> list[str]:
        """Return the ids of the storage instances that are alive, as far as this one has seen."""
        return [instance.instance_id for instance in self.catalogue.instances(KIND)]


@dataclass(eq=False)
class ArchiveSession:
    """One bundle under this instance's lease.

    Attributes:
        bundle: the bundle that is archived.
        ports: shared with all sessions of the process.
        lease: check ``held`` right before each step that two archivers must not both do.
        manifest: the view of the bundle's manifest.
        offsets: of each topic's next message, behind the newest manifest entry; only the archiver counts.
        problems: by task, why it fails; shown by the readiness check.
        unanswered_since: by backend, since when no segment could be stored there; monotonic.
        sequences: of idempotent producers, in what was read of the log; only the archiver notes them.
    """

    bundle: Bundle
    ports: ArchivePorts
    lease: Lease
    manifest: Manifest
    offsets: Offsets = field(default_factory=Offsets)
    problems: dict[str, str] = field(default_factory=dict)
    unanswered_since: dict[StorageBackend, float] = field(default_factory=dict)
    sequences: ProducerSequences = field(default_factory=ProducerSequences)

    def report(self, task: str, error: Exception) -> None:
        """Record why a task fails. The same text is logged once until the task works again."""
        known = isinstance(error, DanubeError)
        text = str(error) if known else repr(error)
        if self.problems.get(task) != text:
            _log.error(
                "bundle_task_failed",
                bundle=str(self.bundle),
                task=task,
                kind=type(error).__name__,
                error=text,
                exc_info=None if known else error,
            )
        self.problems[task] = text

    def count(self, log_range: LogRange) -> bool:
        """Count what follows in the log; return whether idempotent producers have stored some of it."""
        self.offsets.count(log_range.sections, log_range.last_sequence)
        batches = [section.batch for section in log_range.sections if section.batch is not None]
        self.sequences.merge((batch.key, batch.last) for batch in batches)
        return bool(batches)

    async def save_counts(self) -> None:
        """Store the offsets of the topics that exist, and the sequences of idempotent producers.

        A shared segment alone says how many messages of each topic it holds, and no segment whose messages
        they are. So both must be stored before the log range of such messages is purged, or the manifest
        entry of a shared segment is removed. Raises MetadataUnavailable.
        """
        self.offsets.retain(topic.topic_id for topic in self.ports.catalogue.topics_of(self.bundle))
        through, packed = self.offsets.through, self.offsets.packed

        def saved(archive: BundleArchive) -> BundleArchive:
            if archive.offsets_through >= through:
                return archive
            sequences = ProducerSequences.unpack(archive.sequences)
            sequences.merge(self.sequences.items())
            return msgspec.structs.replace(
                archive, offsets_through=through, offsets=packed, sequences=sequences.packed
            )

        await change_archive_state(self.ports.metadata, self.bundle, saved)


BundleTask = Callable[[ArchiveSession], Awaitable[None]]
"""Works on one bundle until its session ends; it is cancelled then."""
