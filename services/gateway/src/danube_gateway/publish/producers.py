"""The producers that this gateway has served: found by id, cached, and reported alive to their owners."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass

import structlog

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, NotFound
from danube_common.model.bundle import Bundle
from danube_common.model.ids import bundle_of
from danube_common.model.names import TopicName
from danube_common.model.producer import AccessMode
from danube_common.model.schema import PayloadCheck, payload_check
from danube_common.wire.owner.producers import (
    TOUCHED_PRODUCERS_MAX,
    CreateProducer,
    FindProducer,
    ProducerFound,
    TouchProducers,
)

TOUCH_INTERVAL_S = 5.0
PRODUCERS_MAX = 100_000
"""Producers in the cache. Beyond it the oldest is evicted, and looked up again when it publishes."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Producer:
    """What publishing needs to know of a producer."""

    producer_id: int
    name: str
    topic: Topic
    topic_name: TopicName
    bundle: Bundle
    check: PayloadCheck


class ProducersOfConnections:
    """The producers that each client connection has had.

    An official Go client creates its producer again when its topic was deleted, and the topic with it. It
    does so on the connection that it had, which tells it from a client that means to create the topic.
    At most PRODUCERS_MAX producers are remembered, and the oldest are forgotten.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], None] = {}

    def add(self, connection: str, topic: str, producer_name: str) -> None:
        """Note that a connection has a producer."""
        if len(self._known) >= PRODUCERS_MAX:
            del self._known[next(iter(self._known))]
        self._known[connection, topic, producer_name] = None

    def had(self, connection: str, topic: str, producer_name: str) -> bool:
        """Return whether a connection has or had a producer of this name on the topic."""
        return (connection, topic, producer_name) in self._known


class Producers:
    """Finds producers by id. A producer that publishes counts as alive."""

    def __init__(self, owners: OwnerClient, catalogue: Catalogue) -> None:
        self._owners = owners
        self._catalogue = catalogue
        self._known: dict[int, Producer] = {}
        self._by_topic: dict[int, set[int]] = defaultdict(set)
        self._active: set[int] = set()
        self._held: Counter[int] = Counter()
        """Streams by producer."""
        self._checks: dict[int, PayloadCheck] = {}
        catalogue.on_topic_gone(self._topic_gone)

    async def create(self, topic: Topic, name: str, mode: AccessMode) -> Producer:
        """Create a producer at its owner. Raises AlreadyExists, LimitExceeded, Unavailable."""
        request = CreateProducer(topic.name, name, mode)
        found = await self._owners.ask(topic.home, request)
        return self._remember(found, topic)

    def hold(self, producer_id: int) -> None:
        """Count a producer as alive while its stream is open, also if it publishes nothing."""
        self._held[producer_id] += 1

    def release(self, producer_id: int) -> None:
        """Note that a stream of the producer has ended."""
        self._held[producer_id] -= 1
        if not self._held[producer_id]:
            del self._held[producer_id]

    def known(self, producer_id: int) -> Producer | None:
        """Return a producer from the cache; None if it is to be looked up with `find`."""
        known = self._known.get(producer_id)
        if known is not None:
            self._active.add(producer_id)
        return known

    async def find(self, producer_id: int) -> Producer:
        """Return a producer, from the cache or from its owner. Raises NotFound, Unavailable."""
        return self.known(producer_id) or await self._ask(producer_id)

    async def exists(self, producer_id: int, timeout_s: float) -> bool:
        """Ask the owner whether a producer exists, which also counts as a sign of life.

        Raises Unavailable.
        """
        bundle = self._catalogue.bundle_of_id(producer_id)
        if bundle is None:
            return False
        try:
            await self._owners.ask(bundle, FindProducer(producer_id), timeout_s=timeout_s)
        except NotFound:
            self._forget(producer_id)
            return False
        return True

    async def run(self) -> None:
        """Report active producers to their owners, and forget deleted ones, until cancelled."""
        while True:
            await asyncio.sleep(TOUCH_INTERVAL_S)
            active, self._active = self._active | set(self._held), set()
            by_bundle: dict[Bundle, list[int]] = defaultdict(list)
            for producer_id in active:
                if (bundle := bundle_of(producer_id)) is not None:
                    by_bundle[bundle].append(producer_id)
            for bundle, ids in by_bundle.items():
                await self._touch(bundle, ids[:TOUCHED_PRODUCERS_MAX])

    async def _touch(self, bundle: Bundle, ids: list[int]) -> None:
        try:
            unknown = await self._owners.ask(bundle, TouchProducers(ids), timeout_s=TOUCH_INTERVAL_S)
        except DanubeError as error:
            _log.warning("touch_failed", bundle=str(bundle), error=str(error))
            return
        for producer_id in unknown.ids:
            self._forget(producer_id)

    async def _ask(self, producer_id: int) -> Producer:
        bundle = self._catalogue.bundle_of_id(producer_id)
        if bundle is None:
            raise NotFound(f"producer {producer_id} does not exist")
        found = await self._owners.ask(bundle, FindProducer(producer_id))
        topic = await self._catalogue.find_topic(TopicName.parse(found.topic))
        if topic is None or topic.topic_id != found.topic_id:
            raise NotFound(f"the topic of producer {producer_id} does not exist")
        return self._remember(found, topic)

    def _remember(self, found: ProducerFound, topic: Topic) -> Producer:
        if len(self._known) >= PRODUCERS_MAX:
            self._forget(next(iter(self._known)))
        check = self._checks.get(topic.topic_id)
        if check is None:
            check = self._checks[topic.topic_id] = payload_check(topic.schema)
        producer = Producer(
            found.producer_id, found.producer_name, topic, topic.topic_name, topic.home, check
        )
        self._known[found.producer_id] = producer
        self._by_topic[topic.topic_id].add(found.producer_id)
        self._active.add(found.producer_id)
        return producer

    def _topic_gone(self, topic: Topic) -> None:
        self._checks.pop(topic.topic_id, None)
        for producer_id in self._by_topic.pop(topic.topic_id, ()):
            self._known.pop(producer_id, None)

    def _forget(self, producer_id: int) -> None:
        producer = self._known.pop(producer_id, None)
        if producer is None:
            return
        of_topic = self._by_topic[producer.topic.topic_id]
        of_topic.discard(producer_id)
        if not of_topic:
            del self._by_topic[producer.topic.topic_id]
