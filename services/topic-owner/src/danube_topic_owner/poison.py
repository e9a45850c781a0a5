"""Resolves poison: drops messages that failed too often, or publishes them to a dead-letter topic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import DanubeError, Refused
from danube_common.model.failure_policy import PoisonPolicy
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import DEFAULT_STORAGE, ReliableOptions, Retention, Strategy
from danube_common.runtime.ports import Ports
from danube_topic_owner.delivery.dead_letter import Frame, Origin, dead_letter_frame
from danube_topic_owner.delivery.retries import FailedMessage
from danube_topic_owner.delivery.subscription import Key, LogSubscription
from danube_topic_owner.owner_metrics import OwnerMetrics

DEAD_LETTERS_AT_ONCE_MAX: Final = 32
"""Dead letters of one subscription that are being stored at one time."""
APPEND_TIMEOUT_S: Final = 5.0
RETRY_WAIT_S: Final = 1.0
"""A subscription whose dead letters could not be stored is tried again after this wait."""
SCHEMA: Final = Schema("dead_letters", SchemaKind.BYTES)
"""Of a dead-letter topic that is created: it may take messages of several topics."""

_log = structlog.get_logger(__name__)


class Poison:
    """Drops and dead-letters what `add` names, until `run` is cancelled.

    A message is acknowledged after its dead letter was stored. If the owner dies in between, the next one
    stores it again, which changes nothing within the log's duplicate window.

    Args:
        ports: the log and the metadata store.
        catalogue: topics of the cluster.
        metrics: of this process.
        on_resolved: called when messages of a subscription were dropped or dead-lettered.
        may_publish: whether this instance still owns the bundle.
    """

    def __init__(
        self,
        ports: Ports,
        catalogue: Catalogue,
        metrics: OwnerMetrics,
        *,
        on_resolved: Callable[[LogSubscription], None],
        may_publish: Callable[[], bool],
    ) -> None:
        self._log = ports.log
        self._topics = Topics(ports.metadata, ports.log, now_ms=lambda: time.time_ns() // 1_000_000)
        self._catalogue = catalogue
        self._metrics = metrics
        self._on_resolved = on_resolved
        self._may_publish = may_publish
        self._waiting: dict[Key, LogSubscription] = {}
        self._resolving: set[Key] = set()
        self._resting: set[Key] = set()
        """Subscriptions whose dead letters could not be stored a moment ago."""
        self._wake = asyncio.Event()

    def add(self, subscription: LogSubscription) -> None:
        """Resolve the subscription's poison. Idempotent."""
        if subscription.key not in self._resting:
            self._waiting[subscription.key] = subscription
            self._wake.set()

    async def run(self) -> None:
        """Resolve poison until cancelled, each subscription by itself."""
        async with asyncio.TaskGroup() as resolving:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for key in self._waiting.keys() - self._resolving:
                    self._resolving.add(key)
                    resolving.create_task(self._resolve_alone(self._waiting.pop(key)))

    async def _resolve_alone(self, subscription: LogSubscription) -> None:
        try:
            await self._resolve(subscription)
        finally:
            self._resolving.discard(subscription.key)
            if subscription.key in self._waiting:
                self._wake.set()

    async def _resolve(self, subscription: LogSubscription) -> None:
        retries = subscription.dispatch.retries
        dead = retries.dead
        if retries.policy.poison_policy is PoisonPolicy.DROP:
            self._settle(subscription, dead)
            return
        try:
            topic = await self._dead_letter_topic(retries.policy.dead_letter_topic, subscription)
            for start in range(0, len(dead), DEAD_LETTERS_AT_ONCE_MAX):
                some = dead[start : start + DEAD_LETTERS_AT_ONCE_MAX]
                outcomes = await self._store(topic, subscription, some)
                if subscription.dispatch.retries is not retries:
                    return  # the subscription has started over
                stored = [one for one, error in zip(some, outcomes, strict=True) if error is None]
                self._settle(subscription, stored)
                self._metrics.dead_letters.labels(subscription.topic, subscription.state.name).inc(
                    len(stored)
                )
                if failed := [error for error in outcomes if error is not None]:
                    raise failed[0]
        except DanubeError as error:
            subscription.poison_problem = str(error)
            _log.warning(
                "dead_letter_failed",
                topic=subscription.topic,
                subscription=subscription.state.name,
                error=str(error),
            )
            self._rest(subscription)
        else:
            subscription.poison_problem = ""

    def _settle(self, subscription: LogSubscription, messages: list[FailedMessage]) -> None:
        for message in messages:
            subscription.resolve(message.position)
        self._on_resolved(subscription)

    def _rest(self, subscription: LogSubscription) -> None:
        def wake() -> None:
            self._resting.discard(subscription.key)
            if subscription.dispatch.retries.has_dead:
                self.add(subscription)

        self._resting.add(subscription.key)
        asyncio.get_running_loop().call_later(RETRY_WAIT_S, wake)

    async def _store(
        self, topic: Topic, subscription: LogSubscription, messages: list[FailedMessage]
    ) -> list[DanubeError | None]:
        """Store dead letters; return for each message why it was not stored, or None. Raises DanubeError."""
        if not self._may_publish():
            raise Refused("this instance may not own the bundle any more")
        name, generation = subscription.state.name, subscription.state.generation
        origin = Origin(subscription.topic, subscription.topic_id, name, generation)
        frames = [dead_letter_frame(topic.name, topic.topic_id, origin, message) for message in messages]
        await self._log.open(topic.home)
        return await asyncio.gather(*(self._append(topic, frame) for frame in frames))

    async def _append(self, topic: Topic, frame: Frame) -> DanubeError | None:
        try:
            await self._log.append(
                topic.home, frame.data, frame_id=frame.frame_id, timeout_s=APPEND_TIMEOUT_S
            )
        except DanubeError as error:
            return error
        return None

    async def _dead_letter_topic(self, name: str, subscription: LogSubscription) -> Topic:
        """Return the topic, or a partition of it; create it if it is missing. Raises DanubeError."""
        parsed = TopicName.parse(name)
        topic = await self._catalogue.find_topic(parsed)
        if topic is None and (parts := await self._topics.partitions(parsed)):
            topic = parts[subscription.topic_id % len(parts)]
        if topic is None:
            source = self._catalogue.topic_by_id(subscription.topic_id)
            options = source.strategy.reliable if source is not None else None
            storage = options.storage if options is not None else DEFAULT_STORAGE
            strategy = Strategy(ReliableOptions(storage=storage, retention=Retention.UNTIL_ACK))
            topic = await self._topics.create(parsed, SCHEMA, strategy)
            _log.info("dead_letter_topic_created", topic=topic.name, bundle=topic.bundle)
        if not topic.strategy.is_reliable:
            raise Refused(f"the dead-letter topic {topic.name} is non-reliable: it keeps no messages")
        return topic
