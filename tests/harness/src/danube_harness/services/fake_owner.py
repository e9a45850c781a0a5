"""A fake topic-owner that answers the requests of the admin service and storage."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import partial

import msgspec

from danube_common.bus.port import Bus
from danube_common.cluster import keys
from danube_common.cluster.records import Claim, Topic, encode_record, read_record
from danube_common.errors import NotFound, Refused
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.names import TopicName
from danube_common.model.position import position_of
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType
from danube_common.wire.envelope import Done
from danube_common.wire.owner.protocol import OWNER, OwnerRequest, owner_subject
from danube_common.wire.owner.subscriptions import (
    CreateSubscription,
    DispatchConfigFound,
    FailurePolicyFound,
    GetDispatchConfig,
    GetFailurePolicy,
    ListSubscriptions,
    ResetSubscription,
    SetDispatchConfig,
    SetFailurePolicy,
    SubscriptionFound,
    SubscriptionInfo,
    Subscriptions,
    Unsubscribe,
)
from danube_common.wire.owner.topics import (
    DescribeTopic,
    FindTopic,
    Floors,
    ReadTopic,
    RetentionFloors,
    SubscriptionDetail,
    TopicDescription,
    TopicRead,
)


class FakeOwner:
    """Answers requests for the bundles it claims: topics from the store, subscriptions set by the test.

    Attributes:
        subscriptions: names by topic.
        connected: (topic, subscription) pairs with a consumer.
        details: the descriptions of subscriptions, by topic.
        failure_policies: by topic and subscription; the others have the default one.
        unacked_bounds: `max_unacked_messages` by topic and subscription, where it was set.
        resets: (topic, subscription, start) of each ResetSubscription received.
        floors: the retention floors, by bundle.
        sequences_through: up to which log sequence producers' sequences are journaled, by bundle.
        messages: what topics hold, each message in a frame of its own from sequence 1 on.
        forgetful: how many more requests are answered with NotFound, as by an owner that lags.
    """

    def __init__(self, store: MetadataStore, bus: Bus, instance_id: str) -> None:
        self.subscriptions: dict[str, list[str]] = {}
        self.connected: set[tuple[str, str]] = set()
        self.details: dict[str, list[SubscriptionDetail]] = {}
        self.failure_policies: dict[tuple[str, str], FailurePolicy] = {}
        self.unacked_bounds: dict[tuple[str, str], int] = {}
        self.resets: list[tuple[str, str, StartPosition]] = []
        self.floors: dict[Bundle, dict[int, int]] = {}
        self.sequences_through: dict[Bundle, int] = {}
        self.messages: dict[str, list[bytes]] = {}
        self.forgetful = 0
        self._store = store
        self._bus = bus
        self._instance_id = instance_id

    async def claim(self, bundles: Iterable[Bundle]) -> None:
        """Claim bundles in the store and serve their requests."""
        for bundle in bundles:
            claim = encode_record(Claim(self._instance_id, "nonce"))
            epoch = await self._store.put(keys.owner_key(bundle), claim)
            await self._bus.serve(owner_subject(bundle, epoch), OWNER.handler(partial(self._answer, bundle)))

    async def _answer(self, bundle: Bundle, request: OwnerRequest) -> msgspec.Struct:
        if isinstance(request, ReadTopic):
            await self._require(request.topic)
            return _read(self.messages.get(request.topic, []), request.position, request.start)
        return await self._carry_out(bundle, request)

    async def _carry_out(self, bundle: Bundle, request: OwnerRequest) -> msgspec.Struct:
        match request:
            case FindTopic(topic=topic):
                await self._require(topic)
                return Done()
            case ListSubscriptions(topic=topic):
                await self._require(topic)
                names = self.subscriptions.get(topic, [])
                return Subscriptions([SubscriptionInfo(n, SubscriptionType.SHARED, []) for n in names])
            case Unsubscribe(topic=topic, subscription=name):
                await self._require_subscription(topic, name)
                if (topic, name) in self.connected:
                    raise Refused(f"subscription {name!r} has a connected consumer")
                self.subscriptions[topic].remove(name)
                return Done()
            case DescribeTopic(topic=topic):
                return await self._describe(topic)
            case SetFailurePolicy(topic=topic, subscription=name, policy=policy):
                await self._require_subscription(topic, name)
                self.failure_policies[topic, name] = policy
                return Done()
            case CreateSubscription(topic=topic, subscription=name):
                await self._require(topic)
                self.subscriptions.setdefault(topic, []).append(name)
                return SubscriptionFound(name, created=True, mark_delete=0)
            case SetDispatchConfig(topic=topic, subscription=name, max_unacked_messages=bound):
                await self._require_subscription(topic, name)
                self.unacked_bounds[topic, name] = bound
                return Done()
            case GetDispatchConfig(topic=topic, subscription=name):
                await self._require_subscription(topic, name)
                return DispatchConfigFound(self.unacked_bounds.get((topic, name), 0))
            case GetFailurePolicy(topic=topic, subscription=name):
                await self._require_subscription(topic, name)
                policy = self.failure_policies.get((topic, name), FailurePolicy())
                return FailurePolicyFound(policy, SubscriptionType.SHARED)
            case ResetSubscription(topic=topic, subscription=name, start=start):
                await self._require_subscription(topic, name)
                self.resets.append((topic, name, start))
                return SubscriptionFound(name, created=False, mark_delete=start.value)
            case RetentionFloors():
                return Floors(self.floors.get(bundle, {}), self.sequences_through.get(bundle, 0))
        raise AssertionError(request)

    async def _describe(self, name: str) -> TopicDescription:
        await self._require(name)
        topic = await read_record(self._store, keys.topic_key(TopicName.parse(name)), Topic)
        assert topic is not None
        return TopicDescription(
            topic=name,
            topic_id=topic.topic_id,
            bundle=topic.bundle,
            epoch=1,
            producers=["p"],
            subscriptions=self.details.get(name, []),
            log_first_sequence=4,
            log_last_sequence=9,
            archived_through=3,
        )

    async def _require_subscription(self, topic: str, name: str) -> None:
        await self._require(topic)
        if name not in self.subscriptions.get(topic, []):
            raise NotFound(f"subscription {name!r} does not exist")

    async def _require(self, topic: str) -> None:
        if self.forgetful > 0:
            self.forgetful -= 1
            raise NotFound(f"topic {topic} is not known yet")
        if await self._store.get(keys.topic_key(TopicName.parse(topic))) is None:
            raise NotFound(f"topic {topic} does not exist")


def _read(messages: list[bytes], position: int, start: StartPosition | None) -> TopicRead:
    """The first message from there on, by itself."""
    end = position_of(len(messages) + 1, 0, 0)
    match start:
        case StartPosition(StartKind.EARLIEST):
            position = position_of(1, 0, 0)
        case StartPosition(StartKind.LATEST):
            position = end
        case StartPosition(StartKind.LAST, value):
            position = position_of(max(len(messages) - value, 0) + 1, 0, 0)
        case StartPosition(_, value):
            position = value
    for sequence, message in enumerate(messages, 1):
        if (first := position_of(sequence, 0, 0)) >= position:
            body = struct.pack("<I", len(message)) + message
            return TopicRead([(first, sequence - 1, 1, body)], first + 1, end)
    return TopicRead([], end, end)
