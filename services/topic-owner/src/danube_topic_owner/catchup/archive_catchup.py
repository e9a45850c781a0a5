"""What of a bundle its log holds no more: read from the archive, or gone and passed over."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import SHARED, ManifestEntry
from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle, Family
from danube_topic_owner.catchup.expirer import Expirer
from danube_topic_owner.catchup.history import History
from danube_topic_owner.catchup.history_feed import HistoryFeed, LogExtent
from danube_topic_owner.delivery.subscription import LogSubscription
from danube_topic_owner.journal.writer import JournalWriter
from danube_topic_owner.owner_metrics import OwnerMetrics


class ArchiveCatchUp:
    """One bundle's archive at its owner. A bundle of the memory family has none: what is purged is gone.

    Args:
        bundle: whose past.
        bus: how storage instances are asked.
        catalogue: of topics and instances.
        readers: subscriptions behind the log's tail that have a consumer.
        subscriptions: all reliable ones of a topic, or of the bundle (None).
        place: the log's floor and tail, now.
        served: called with each subscription that was given something or moved on.
        on_log: called when a reader has reached what is in the log.
        metrics: where losses and waiting subscriptions are counted.
    """

    def __init__(
        self,
        bundle: Bundle,
        bus: Bus,
        catalogue: Catalogue,
        *,
        readers: Callable[[], Iterable[LogSubscription]],
        subscriptions: Callable[[int | None], Iterable[LogSubscription]],
        place: Callable[[], LogExtent],
        served: Callable[[LogSubscription], None],
        on_log: Callable[[], None],
        metrics: OwnerMetrics,
    ) -> None:
        self.cuts: Manifest | None = None
        self.history: History | None = None
        self._bundle = bundle
        self._bus = bus
        self._catalogue = catalogue
        self._readers = readers
        self._subscriptions = subscriptions
        self._place = place
        self._served = served
        self._on_log = on_log
        self._metrics = metrics
        self._feed: HistoryFeed[LogSubscription] | None = None
        self._expirer: Expirer | None = None

    async def open(self, metadata: MetadataStore, writer: JournalWriter) -> None:
        """Learn what is catalogued. Raises MetadataUnavailable."""
        if self._bundle.family is Family.FILE:
            self.cuts = await Manifest.open(metadata, self._bundle, self._cut_changed)
            self.history = History(self._bus, self._catalogue, self.cuts)
            self._feed = HistoryFeed(
                self.history,
                self.cuts,
                self._catalogue.topic_by_id,
                self._readers,
                place=self._place,
                served=self._served,
                on_gone=self.check,
                on_log=self._on_log,
                report=self._metrics.waiting_for_archive.labels(str(self._bundle)).set,
            )
        self._expirer = Expirer(
            self._bundle,
            self.cuts,
            floor=lambda: self._place().floor,
            topic=self._catalogue.topic_by_id,
            subscriptions=self._subscriptions,
            writer=writer,
            moved=self._moved_on,
            metrics=self._metrics,
        )
        self.check()

    def work(self) -> list[tuple[Coroutine[Any, Any, None], str]]:
        """What is to run until the bundle is given up, with names."""
        work: list[tuple[Coroutine[Any, Any, None], str]] = []
        if self._feed is not None:
            work.append((self._feed.run(), "history"))
        if self._expirer is not None:
            work.append((self._expirer.run(), "expiry"))
        return work

    async def close(self) -> None:
        """Idempotent, also if it was never opened."""
        if self.history is not None:
            await self.history.close()
        if self.cuts is not None:
            await self.cuts.close()

    def wake(self) -> None:
        """A reader is below the log's floor."""
        if self._feed is not None:
            self._feed.wake()
        else:
            self.check()

    def check(self, topic_id: int | None = None) -> None:
        """Something of a topic, or of any (None), may be gone."""
        if self._expirer is not None:
            self._expirer.check(topic_id)

    def forget(self, key: tuple[int, str]) -> None:
        """The subscription is no more, or at another place."""
        if self._feed is not None:
            self._feed.forget(key)

    def obstacle(self, key: tuple[int, str]) -> str:
        """Why a subscription does not go on; empty if nothing is known to be in its way."""
        return self._feed.obstacle(key) if self._feed is not None else ""

    def _moved_on(self, subscription: LogSubscription) -> None:
        self.forget(subscription.key)
        self._served(subscription)

    def _cut_changed(self, before: ManifestEntry | None, after: ManifestEntry | None) -> None:
        if self._feed is not None:
            self._feed.retry()
        if before is None:
            return
        retained = {record.key for record in before.segments if record.retained}
        kept = {record.key for record in after.segments if record.retained} if after is not None else set()
        for record in before.segments:
            if record.key in retained - kept:
                self.check(None if record.topic_id == SHARED else record.topic_id)
