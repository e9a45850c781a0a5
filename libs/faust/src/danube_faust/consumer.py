"""Faust's consumer: partitions of Danube topics, shared among the workers of an app."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, cast

from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.exceptions import ConsumerNotStarted, ImproperlyConfigured, ProducerSendError
from faust.transport import base
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from faust.types.tuples import Message as FaustMessage
from mode import Service, get_logger
from mode.types import ServiceT

from danube_client import Client, Message
from danube_faust import assignment, dead_letter, record
from danube_faust.copartitioning import check_partitions, stop_at_mismatch
from danube_faust.group import Group
from danube_faust.members import Member
from danube_faust.names import Names
from danube_faust.producer import Producer
from danube_faust.settings import of_transport, option
from danube_faust.sources import Sources
from danube_faust.tables.restoring import begin, check_gaps, restore
from danube_faust.tables.router import route_by_messages
from danube_faust.tables.snapshots import Snapshots
from danube_faust.topics import Topics

FETCH_TIMEOUT_S: Final = 1.0
"""A fetch that finds nothing ends so late."""
YIELD_MESSAGES: Final = 100
"""After so many messages agents get their turn."""
COMMIT_EVERY: Final = 2000
"""Acknowledged messages after which they are committed, at the latest."""
TICK_S: Final = 0.5
"""The members of the app are counted at least so often."""
HANDOVER_S: Final = 3.0
"""How long a rebalance waits for partitions that another worker has yet; then it goes on without them."""
MEMBERS_TOPIC: Final = "-__members"

logger = get_logger(__name__)


class Consumer(base.Consumer):
    """Consumes the partitions that this worker has.

    A partition of a topic with acknowledgements comes from a failover subscription named as the app. Its one
    active consumer, as the platform tells it, is the worker that has the partition. Changelogs have no
    subscription.
    """

    def __post_init__(self) -> None:
        self._client: Client | None = None
        self._topics: Topics | None = None
        self._names = Names()
        self._group: Group | None = None
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._sources: Sources | None = None
        self._targets: ClientMetadata | None = None
        self._worked_out: tuple[tuple[Mapping[str, Member], dict[str, int]], ClientMetadata] | None = None
        self._subscription: tuple[str, ...] = ()
        self._generation = 0
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._assignor = cast("PartitionAssignor", self.app.assignor)
        self._commit_max = min(self._commit_every or COMMIT_EVERY, COMMIT_EVERY)

    async def on_start(self) -> None:
        """Connect."""
        settings = of_transport(self.transport)
        self._client = await settings.client()
        names = self._names = settings.names
        self._topics = Topics(self._client, names)
        self._sources = Sources(
            self._client,
            self._topics,
            self.app.conf.id,
            self._name,
            arrived=self._arrived,
            changed=self._changed,
        )
        members = names.topic(f"{self.app.conf.id}{MEMBERS_TOPIC}")
        self._group = Group(self._client, members, self._changed.set)
        if topic := option(self.app, dead_letter.OPTION):
            dead_letter.collect_failures(self.app, topic)
        stop_at_mismatch(self.app, self._producer().fail)
        route_by_messages(self.app)
        await super().on_start()

    async def on_stop(self) -> None:
        """Commit, leave the app's workers, and close the connection."""
        await super().on_stop()
        if self._sources is not None:
            await self._sources.close()
        if self._group is not None:
            await self._group.leave()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # What Faust wants to consume, and what this worker has

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Consume so many topics, together with the other workers; those that do not exist are created."""
        wanted = tuple(sorted(topics))
        known = self._known_topics()
        for topic in wanted:
            if not await known.find(topic):
                if not self.app.conf.topic_allow_declare:
                    raise ImproperlyConfigured(f"there is no topic {topic!r}, and topic_allow_declare is off")
                await known.create(topic, self.app.conf.topic_partitions)
            name = self._names.topic(topic)
            check_partitions(self.app, topic, name, known.partitions(topic) or 1)
        self._subscription = wanted
        url = str(self.app.conf.canonical_url)
        await self._joined_group().join(Member(self._name, url, wanted))
        self._changed.set()

    def assignment(self) -> set[TP]:
        """Return the partitions that this worker has, with the changelogs that it follows."""
        return set() if self._sources is None else set(self._sources.assigned)

    @Service.task
    async def _keep_assignment(self) -> None:
        while not self.should_stop:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            self._changed.clear()
            self._raise_failure()
            await self._begin_anew_behind_gaps()
            targets = self._new_targets()
            if targets is not None and not self.should_stop:
                try:
                    await self._rebalance(targets)
                except ConsumerNotStarted:
                    if not self.should_stop:  # else closed meanwhile
                        raise

    def _new_targets(self) -> ClientMetadata | None:
        """Return what this worker is to work on, if that or what it has is other than it was."""
        if self._group is None or not self._subscription:
            return None
        living = self._group.living()
        if living is None or self._name not in living:
            return None
        known = self._known_topics()
        counts = {
            topic: count for topic in self._subscription if (count := known.partitions(topic)) is not None
        }
        view = (living, counts)
        if self._worked_out is None or self._worked_out[0] != view:
            # Most heartbeats say what was said before.
            self._worked_out = view, assignment.assign(self._assignor, living, counts)[self._name]
        targets = self._worked_out[1]
        old = self._targets
        if (
            old is None
            or targets.assignment != old.assignment
            or targets.changelog_distribution != old.changelog_distribution
            or self._mine(targets) != self.assignment()
        ):
            return targets
        return None

    def _sources_of(self, targets: ClientMetadata) -> set[TP]:
        acked = self.app.topics.acks_enabled_for
        return {
            tp for tp in targets.assignment.active_tps if acked(tp.topic) or not self._is_changelog_tp(tp)
        }

    def _mine(self, targets: ClientMetadata) -> set[TP]:
        """Return what this worker has of its targets: a changelog with all that its partition depends on."""
        wanted = self._sources_of(targets)
        missing = self._opened_sources().lacking(wanted)
        groups = targets.topic_groups
        blocked = {(groups.get(tp.topic), tp.partition) for tp in missing}
        return {
            tp
            for tp in targets.assignment.active_tps
            if tp not in missing
            and (not self._is_changelog_tp(tp) or (groups.get(tp.topic), tp.partition) not in blocked)
        } | {tp for tp in targets.assignment.standby_tps if self._is_changelog_tp(tp)}

    async def _rebalance(self, targets: ClientMetadata) -> None:
        self.app.on_rebalance_start()
        self._joined_group().has(*assignment.told(self._assignor, targets))
        sources, wanted = self._opened_sources(), self._sources_of(targets)
        await self.on_partitions_revoked(self.assignment())
        await self._producer().release(self._mine(targets))
        await sources.keep(wanted, targets.assignment.active_tps | targets.assignment.standby_tps)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER_S):
                while sources.lacking(wanted):
                    self._changed.clear()
                    await self._changed.wait()
                    self._raise_failure()
        self._targets = targets
        sources.assigned = assignment.take(self._assignor, targets, self._mine(targets))
        await self._producer().claim(sources.assigned & targets.assignment.active_tps)
        self._generation += 1
        self.app.consumer_generation_id = self._generation
        await self.on_partitions_assigned(self.assignment(), self._generation)

    async def _begin_anew_behind_gaps(self) -> None:
        """Let the next rebalance recover the tables anew, from snapshots, if changes were deleted unread."""
        if ends := self._opened_sources().take_gaps():
            logger.warning("changes that were not read are deleted, recovery begins anew: %s", sorted(ends))
            await check_gaps(Snapshots(self._connected(), self._known_topics()), ends)
            self._targets = None

    def _raise_failure(self) -> None:
        if self._group is not None and self._group.failed is not None:
            raise self._group.failed
        self._opened_sources().raise_failure()

    # Messages

    async def _getmany(
        self,
        active_partitions: AbstractSet[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's
    ) -> dict[TP, list[Message]]:
        self._arrived.clear()
        sources = self._opened_sources()
        found = sources.take(active_partitions)
        if not found:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._arrived.wait()
            found = sources.take(active_partitions)
        for tp in [tp for tp in found if sources.is_followed(tp)]:
            await restore(self.app, tp, [self._to_message(tp, message) for message in found.pop(tp)])
            await asyncio.sleep(0)
        return found

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        """Hand messages on until the fetcher stops.

        What waits for room when the flow stops is dropped, and comes again after the next seek.
        """
        stopped = cast("Service", fetcher)._stopped.is_set  # noqa: SLF001
        while not (self.should_stop or stopped()):
            if self._n_acked >= self._commit_max:
                self._n_acked = 0
                await self.commit()
            fetched = self.getmany(timeout=FETCH_TIMEOUT_S)
            async for tp, message in fetched:
                await self.wait_first(self._hand_on(tp, message, fetched), self.suspend_flow.wait())
            await asyncio.sleep(0)

    async def _hand_on(
        self, tp: TP, message: FaustMessage, others: AsyncIterator[tuple[TP, FaustMessage]]
    ) -> None:
        """Hand on messages of one fetch in one task; Faust's own way makes four tasks of each message."""
        await self._hand_one_on(tp, message)
        count = 1
        async for another, message_of_it in others:
            await self._hand_one_on(another, message_of_it)
            count += 1
            if count % YIELD_MESSAGES == 0:
                await asyncio.sleep(0)

    async def _hand_one_on(self, tp: TP, message: FaustMessage) -> None:
        last = self._read_offset[tp]
        if last is not None and message.offset < last:
            return
        await self.callback(message)
        self._read_offset[tp] = message.offset

    def _to_message(self, tp: TP, record_: Message) -> ConsumerMessage:
        key, value, headers, timestamp_s = record.incoming(record_.payload, record_.attributes, record_.key)
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            record_.position,
            record_.publish_time_ms / 1000 if timestamp_s is None else timestamp_s,
            0,
            headers,
            key,
            value,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Stop fetching from partitions; changelogs are not read meanwhile."""
        paused = set(tps)
        super().pause_partitions(paused)
        self._opened_sources().pause(paused)

    # Offsets

    def _new_offset(self, tp: TP) -> int | None:
        index = self._acked_index[tp]
        if not index:
            return None
        offset = self._opened_sources().committable(tp, index)
        if offset is not None:
            kept = {position for position in index if position >= offset}
            index.intersection_update(kept)
            self._acked[tp][:] = sorted(kept)
        return offset

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: positions have gaps, and the partition's log knows them."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        failure = self._producer().failure
        if failure is not None:
            if self.should_stop:
                return False
            raise ProducerSendError(f"what was sent is not stored, and nothing is committed: {failure!r}")
        return await self._opened_sources().commit(offsets)

    async def seek_to_committed(self) -> dict[TP, int]:
        """Give everything again that is not committed."""
        return self._opened_sources().rewind()

    async def _seek(self, partition: TP, offset: int) -> None:
        await self._opened_sources().of(partition).seek(offset)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Go on at other offsets."""
        for tp, offset in partitions.items():
            await self.seek(tp, offset)

    async def position(self, tp: TP) -> int | None:
        """Return what follows the last message that was received."""
        return self._opened_sources().of(tp).log.end or None

    def highwater(self, tp: TP) -> int:
        """Return what follows the last message that was received, as far as this worker knows."""
        return self._opened_sources().of(tp).log.end

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return where the reading of changelogs begins, None for an empty one; their snapshots are read."""
        topics = self._known_topics()
        found = await begin(self.app, Snapshots(self._connected(), topics), topics, partitions)
        return cast("Mapping[TP, int]", found)  # None as in Faust's other drivers

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        """Return what follows the newest messages."""
        return await Snapshots(self._connected(), self._known_topics()).ends(partitions)

    # Topics

    def topic_partitions(self, topic: str) -> int | None:
        """Return how many partitions a topic has."""
        return self._known_topics().partitions(topic)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Return the partition of a key."""
        if partition is not None or key is None:
            return partition
        number: int = self.app.producer.key_partition(topic, key).partition
        return number

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: Any) -> None:
        """Create a topic; see the producer."""
        await self.app.producer.create_topic(topic, partitions, replication, **options)

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _producer(self) -> Producer:
        return cast("Producer", self.app.producer)

    def _known_topics(self) -> Topics:
        if self._topics is None:
            raise ConsumerNotStarted("the consumer is not started")
        return self._topics

    def _opened_sources(self) -> Sources:
        if self._sources is None:
            raise ConsumerNotStarted("the consumer is not started")
        return self._sources

    def _joined_group(self) -> Group:
        if self._group is None:
            raise ConsumerNotStarted("the consumer is not started")
        return self._group

    def _connected(self) -> Client:
        if self._client is None:
            raise ConsumerNotStarted("the consumer is not started")
        return self._client
