"""Serves messages that are no longer in the log: replays them from the archive, or skips expired ones."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Self

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import SHARED, ManifestEntry
from danube_common.model.bundle import Family
from danube_topic_owner.catchup.expirer import Expirer
from danube_topic_owner.catchup.history import History
from danube_topic_owner.catchup.history_feed import HistoryFeed
from danube_topic_owner.catchup.offset_fold import OffsetFold
from danube_topic_owner.catchup.start_positions import StartPositions
from danube_topic_owner.catchup.topic_reader import TopicReader
from danube_topic_owner.context import OwnerContext


class ArchiveCatchUp:
    """One bundle's archive at its owner.

    A bundle of the memory family has no archive: subscriptions skip what was purged from its log.

    Attributes:
        manifest: of the bundle; None for the memory family.
        offset_fold: counts the messages of topics.
        starts: finds start positions in archive and log.
        reader: reads topics for those without a subscription.
    """

    def __init__(self, context: OwnerContext, manifest: Manifest | None) -> None:
        self.manifest = manifest
        self._history: History | None = None
        self._feed: HistoryFeed | None = None
        if manifest is not None:
            self._history = History(context.ports.bus, context.catalogue, manifest)
            self._feed = HistoryFeed(context, manifest, self._history, on_gone=self.check)
        self.offset_fold = OffsetFold(context, manifest)
        self._expirer = Expirer(context, manifest)
        self.starts = StartPositions(context.bundle, context.ports.log, manifest, self._history)
        self.reader = TopicReader(context, manifest, self._history, self.offset_fold)

    @classmethod
    async def open(cls, context: OwnerContext) -> Self:
        """Read the manifest. Raises MetadataUnavailable."""
        if context.bundle.family is Family.MEMORY:
            return cls(context, None)
        manifest = await Manifest.open(context.ports.metadata, context.bundle)
        self = cls(context, manifest)
        manifest.on_change(self._manifest_changed)
        return self

    def work(self) -> list[tuple[Coroutine[Any, Any, None], str]]:
        """Return the named coroutines that run until the bundle is given up."""
        self.check()
        feed = [] if self._feed is None else [(self._feed.run(), "history")]
        return [*feed, (self._expirer.run(), "expiry"), (self.offset_fold.run(), "offsets")]

    async def close(self) -> None:
        """Stop to follow the manifest and end reads that are under way. Idempotent."""
        if self._history is not None:
            await self._history.close()
        if self.manifest is not None:
            await self.manifest.close()

    def wake(self) -> None:
        """Serve the subscriptions that are below the log's floor."""
        if self._feed is not None:
            self._feed.wake()
        else:
            self.check()

    def check(self, topic_id: int | None = None) -> None:
        """Look for expired messages of a topic, or of all topics (None)."""
        self._expirer.check(topic_id)

    def _manifest_changed(self, before: ManifestEntry | None, after: ManifestEntry | None) -> None:
        if self._feed is not None:
            self._feed.retry()
        retained = {record.key for record in after.segments if record.retained} if after else set()
        for record in before.segments if before else ():
            if record.retained and record.key not in retained:
                self.check(None if record.topic_id == SHARED else record.topic_id)
