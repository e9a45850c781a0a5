"""``danube_platform.TopicDetails``: describes topics, their segments and subscriptions.

No v0.2 client knows these methods, so failures have the status that says what they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from danube_admin_service.api.archive_view import (
    ArchiveView,
    is_unreadable,
    live_instances,
    quarantined,
    read_archive_view,
    totals,
)
from danube_admin_service.api.effective_policies import EffectivePolicies, json_text
from danube_admin_service.api.errors import failure
from danube_admin_service.api.named_topics import named_topics
from danube_admin_service.api.unary import precise
from danube_common.archive.records import SHARED, ArchiverLease, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Claim, Topic, decode_record, read_record
from danube_common.cluster.topics import Topics
from danube_common.errors import CorruptData, DanubeError, InvalidInput, NotFound
from danube_common.metadata.port import MetadataStore
from danube_common.model.names import TopicName, check_label
from danube_common.model.strategy import StorageBackend
from danube_common.model.subscription import StartKind, StartPosition, start_at
from danube_common.rpc.port import UnaryHandler
from danube_common.wire.owner.subscriptions import ResetSubscription
from danube_common.wire.owner.topics import DescribeTopic, TopicDescription
from danube_proto import danube_platform_pb2 as wire
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND

OWNERS_AT_ONCE_MAX: Final = 16
_KINDS: Final = {number: StartKind[name] for name, number in wire.SubscriptionStart.Kind.items()}


class TopicDetails:
    """Reads manifests itself, and asks a topic's owner for what only the owner knows."""

    def __init__(
        self, store: MetadataStore, topics: Topics, owners: OwnerClient, effective_policies: EffectivePolicies
    ) -> None:
        self._store = store
        self._topics = topics
        self._owners = owners
        self._effective_policies = effective_policies
        self._asking = asyncio.Semaphore(OWNERS_AT_ONCE_MAX)

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_platform.TopicDetails"
        return {
            f"{prefix}/DescribeTopic": precise(wire.DescribeTopicRequest, self.describe),
            f"{prefix}/ListSegments": precise(wire.ListSegmentsRequest, self.list_segments),
            f"{prefix}/ResetSubscription": precise(wire.ResetSubscriptionRequest, self.reset),
        }

    async def describe(self, request: wire.DescribeTopicRequest) -> wire.DescribeTopicResponse:
        """Describe a topic or its partitions.

        If the owner does not answer, its part is missing, with the reason.
        """
        topics = await named_topics(self._topics, request.topic)
        views = await self._views(topics)
        live = await live_instances(self._store)
        described = [self._describe(topic, views[topic.bundle], live) for topic in topics]
        return wire.DescribeTopicResponse(topics=await asyncio.gather(*described))

    async def list_segments(self, request: wire.ListSegmentsRequest) -> wire.ListSegmentsResponse:
        """List the segments that may hold messages of a topic or its partitions."""
        topics = await named_topics(self._topics, request.topic)
        views = await self._views(topics)
        live = await live_instances(self._store)
        segments = [
            _segment(topic, segment, live)
            for topic in topics
            for segment in views[topic.bundle].segments(topic)
        ]
        return wire.ListSegmentsResponse(segments=segments)

    async def reset(self, request: wire.ResetSubscriptionRequest) -> wire.ResetSubscriptionResponse:
        """Reset a subscription in each named topic. If one fails, those before it stay reset."""
        topics = await named_topics(self._topics, request.topic)
        subscription = check_label(request.subscription, "subscription")
        start = _start(request.start)
        if start.kind is StartKind.POSITION and len(topics) > 1:
            raise InvalidInput(f"a position is of one topic: name a partition of {request.topic}")
        moved = [self._reset(topic, subscription, start) for topic in topics]
        return wire.ResetSubscriptionResponse(places=await asyncio.gather(*moved))

    async def _views(self, topics: list[Topic]) -> dict[str, ArchiveView]:
        bundles = {topic.bundle: topic.home for topic in topics}
        views = await asyncio.gather(*(read_archive_view(self._store, home) for home in bundles.values()))
        return dict(zip(bundles, views, strict=True))

    async def _describe(
        self, topic: Topic, view: ArchiveView, live: Collection[str]
    ) -> wire.TopicDescription:
        described_by_owner, policies = await asyncio.gather(
            self._ask_owner(topic), self._effective_policies.of_topic(TopicName.parse(topic.name))
        )
        owner, epoch = await self._owner(topic)
        kept = [segment for segment in view.segments(topic) if segment.retained]
        own = [segment for segment in kept if segment.topic_id != SHARED]
        shared = [segment for segment in kept if segment.topic_id == SHARED]
        described = wire.TopicDescription(
            topic=topic.name,
            topic_id=topic.topic_id,
            bundle=topic.bundle,
            owner=owner,
            archiver=await self._archiver(topic),
            epoch=epoch,
            schema_type=topic.schema.kind.value,
            schema_data=topic.schema.definition,
            policies=json_text(policies),
            created_ms=topic.created_ms,
            archived_through=view.archived_through,
            segments=totals(own),
            shared_segments=totals(shared),
            oldest_ms=min((segment.published_ms_min for segment in own), default=0),
            newest_ms=max((segment.published_ms_max for segment in own), default=0),
            quarantined=[row for segment in view.segments(topic) for row in quarantined(segment)],
            deleted=view.deleted(topic.topic_id),
            shared_deleted=view.deleted(SHARED),
            unreadable_segments=totals(segment for segment in kept if is_unreadable(segment, live)),
        )
        if (options := topic.strategy.reliable) is not None:
            described.reliable = True
            described.storage = options.storage.value
            described.segment_size_mb = options.segment_size_mb
            described.retention = options.retention.value
            described.retention_period_s = options.retention_period_s
            if options.storage is StorageBackend.MEMORY:
                log = view.memory_log
                described.memory_log.CopyFrom(
                    wire.MemoryLog(size_bytes=log.size_bytes, oldest_ms=log.oldest_ms, held_by=log.held_by)
                )
        if isinstance(described_by_owner, TopicDescription):
            _add_owners_part(described, described_by_owner)
        else:
            described.owner_problem = str(described_by_owner)
        return described

    async def _ask_owner(self, topic: Topic) -> TopicDescription | DanubeError:
        try:
            async with self._asking:
                return await self._owners.ask(topic.home, DescribeTopic(topic.name))
        except CorruptData:
            raise
        except DanubeError as error:
            return error

    async def _reset(self, topic: Topic, subscription: str, start: StartPosition) -> wire.SubscriptionPlace:
        try:
            async with self._asking:
                found = await self._owners.ask(topic.home, ResetSubscription(topic.name, subscription, start))
        except NotFound as error:
            raise failure(str(error), SUBSCRIPTION_NOT_FOUND) from None
        return wire.SubscriptionPlace(topic=topic.name, mark_delete=found.mark_delete)

    async def _owner(self, topic: Topic) -> tuple[str, int]:
        """Its instance id and epoch."""
        entry = await self._store.get(keys.owner_key(topic.home))
        return (decode_record(Claim, entry.value).instance_id, entry.revision) if entry else ("", 0)

    async def _archiver(self, topic: Topic) -> str:
        lease = await read_record(self._store, keys.archiver_key(topic.home), ArchiverLease)
        return lease.instance_id if lease else ""


def _add_owners_part(described: wire.TopicDescription, part: TopicDescription) -> None:
    described.log_first_sequence = part.log_first_sequence
    described.log_last_sequence = part.log_last_sequence
    described.producers.extend(part.producers)
    described.subscriptions.extend(
        wire.SubscriptionDescription(
            name=one.name,
            type=one.subscription_type.name.lower(),
            consumers=one.consumers,
            mark_delete=one.mark_delete,
            backlog=one.backlog,
            backlog_exact=one.backlog_exact,
            unacked=one.unacked,
            lost=one.lost,
            blocked=one.blocked,
            prefetch=one.prefetch,
            failed=one.failed,
            holes=one.holes,
            acked_ahead=one.acked_ahead,
        )
        for one in sorted(part.subscriptions, key=lambda one: one.name)
    )


def _segment(topic: Topic, segment: SegmentRecord, live: Collection[str]) -> wire.Segment:
    return wire.Segment(
        topic=topic.name,
        key=segment.key,
        storage=segment.backend.value,
        holders=segment.holders,
        shared=segment.topic_id == SHARED,
        first_position=segment.first_position,
        last_position=segment.last_position,
        messages=segment.messages,
        first_offset=segment.first_offset,
        size_bytes=segment.size_bytes,
        oldest_ms=segment.published_ms_min,
        newest_ms=segment.published_ms_max,
        delete_after_ms=segment.delete_after_ms,
        quarantined=quarantined(segment),
        away=[holder for holder in segment.holders if holder not in live],
        copying=segment.copying,
        bound_for=segment.bound_for or "",
        unreadable=segment.retained and is_unreadable(segment, live),
    )


def _start(start: wire.SubscriptionStart) -> StartPosition:
    """Raises InvalidInput."""
    kind = _KINDS.get(start.kind)
    if kind is None:
        raise InvalidInput(f"{start.kind} is no kind of start")
    return start_at(kind, start.value)
