"""The streams of a platform in memory: what producers, consumers and readers of a client talk to."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import re
import time
from collections import deque
from typing import Any, Final

from danube_client import dead_letter
from danube_client.consumer import SubscriptionType
from danube_client.errors import (
    CallError,
    ClientError,
    Closed,
    InvalidRequest,
    InvalidTopicName,
    ProducerExists,
    SubscribeDenied,
    TopicNotFound,
    Unreachable,
)
from danube_client.schema import Schema, SchemaType
from danube_client.start import StartKind
from danube_client.stream.batch import Compression, pack, unpack
from danube_client.testing.model import Credit, Member, Stored, Topic
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_stream_pb2 as api

ADDRESS: Final = "http://memory"
MESSAGE_BYTES_MAX: Final = 1 << 20
NAME: Final = re.compile(r"/[\w-]+/[\w-]+", re.ASCII)


class Hub:
    """The topics of a platform in memory, and the streams of its clients.

    Attributes:
        topics: plain topics and partitions.
        partitions: of each partitioned topic, the names of its partitions.
    """

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.partitions: dict[str, list[str]] = {}
        self.consuming: list[Consuming] = []
        self.publishing: list[Publishing] = []
        self.followers: set[asyncio.Event] = set()

    def parts(self, name: str) -> list[Topic]:
        """Return a topic, or the partitions of one; nothing if there is none."""
        names = self.partitions.get(name, [name])
        return [self.topics[part] for part in names if part in self.topics]

    def found(self, name: str) -> list[Topic]:
        """Return a topic, or the partitions of one; raises TopicNotFound."""
        if not (parts := self.parts(name)):
            raise TopicNotFound("NOT_FOUND", f"there is no topic {name}")
        return parts

    def create(self, request: api.OpenProducer) -> None:
        """Create the topic of a producer; raises InvalidTopicName."""
        if not NAME.fullmatch(request.topic):
            raise InvalidTopicName("INVALID_ARGUMENT", f"{request.topic!r} is not /namespace/topic")
        reliable = not request.HasField("dispatch") or request.dispatch.reliable
        schema = Schema(SchemaType(int(request.schema.type)), definition=request.schema.definition.decode())
        names = [request.topic]
        if request.partitions:
            names = [f"{request.topic}-part-{number}" for number in range(request.partitions)]
            self.partitions[request.topic] = names
        for name in names:
            self.topics[name] = Topic(name, len(self.topics) + 1, schema, reliable=reliable)
        for session in self.consuming:
            session.join()

    def bury(self, topic: Topic, subscription: str, positions: list[int], reason: str = "") -> None:
        """Publish poison to the dead-letter topic of a subscription, which is created if it is missing."""
        one = topic.subscriptions[subscription]
        name = one.policy.dead_letter_topic if one.policy is not None else ""
        if positions and name not in self.topics:
            self.create(api.OpenProducer(topic=name))
        for position in positions:
            stored = topic.at(position)
            message = wire.StreamMessage.FromString(stored.data)
            message.attributes.update(
                {
                    dead_letter.ORIGINAL_TOPIC: topic.name,
                    dead_letter.ORIGINAL_SUBSCRIPTION: subscription,
                    dead_letter.ATTEMPTS: str(one.failures.pop(position)),
                    dead_letter.REASON: reason or "unknown",
                }
            )
            self.topics[name].append(Stored(message.SerializeToString(), stored.key, stored.stored_ms))

    def changed(self) -> None:
        """Deliver what can be delivered now."""
        now_s = asyncio.get_running_loop().time()
        for topic in self.topics.values():
            for subscription in topic.subscriptions.values():
                for member, position in subscription.deliver(now_s):
                    session = next(one for one in self.consuming if one.has(member))
                    session.deliver(topic, member, position, subscription.failures.get(position, 0))
        for session in self.consuming:
            session.tell_end_of_backlog()
        for event in self.followers:
            event.set()


class MemoryStream:
    """A stream as `danube_client.connection.Stream` is one, whose other side is an object."""

    address = ADDRESS

    def __init__(self) -> None:
        self.session: Publishing | Consuming | None = None
        self._answers: deque[Any] = deque()
        self._arrived = asyncio.Event()
        self._broken: ClientError | None = None

    def answer(self, answer: Any) -> None:
        """Give an answer, or the error with which the stream ends."""
        self._answers.append(answer)
        self._arrived.set()

    async def open(self, request: Any) -> Any:
        """Give the first request to the other side, and return its answer."""
        await self.write(request)
        return await self.read()

    async def write(self, request: Any) -> None:
        """Give a request to the other side."""
        if self._broken is not None or self.session is None:
            raise Unreachable("UNAVAILABLE", "the stream has ended")
        try:
            self.session.take(request)
        except CallError as error:
            self.session.end()
            self.answer(error)

    async def read(self) -> Any:
        """Return the next answer, or raise why the stream has ended."""
        while not self._answers:
            if self._broken is not None:
                raise self._broken
            self._arrived.clear()
            await self._arrived.wait()
        answer = self._answers.popleft()
        if isinstance(answer, ClientError):
            self._broken = answer
            raise answer
        return answer

    def break_off(self, reason: str = "") -> None:
        """End the stream."""
        if self.session is not None:
            self.session.end()
        self._broken = Unreachable("UNAVAILABLE", reason) if reason else Closed("the client is closed")
        self._answers.clear()
        self._arrived.set()


class Publishing:
    """The platform's side of one producer."""

    def __init__(self, hub: Hub, stream: MemoryStream) -> None:
        self.exclusive = False
        self._hub = hub
        self.stream = stream
        self.topics: list[Topic] = []
        self.opening = api.OpenProducer()

    def take(self, request: api.PublishRequest) -> None:
        """Take a request; raises the CallError with which the stream ends."""
        if request.HasField("open"):
            self._take_open(request.open)
        else:
            self.stream.answer(self._stored(request.batch))
            self._hub.changed()

    def end(self) -> None:
        """The stream has ended."""
        if self in self._hub.publishing:
            self._hub.publishing.remove(self)

    def _take_open(self, request: api.OpenProducer) -> None:
        parts = self._hub.parts(request.topic)
        if not parts:
            if request.must_exist:
                raise TopicNotFound("NOT_FOUND", f"there is no topic {request.topic}")
            self._hub.create(request)
            parts = self._hub.parts(request.topic)
        elif request.partitions and len(self._hub.partitions.get(request.topic, ())) != request.partitions:
            raise InvalidRequest(
                "FAILED_PRECONDITION", f"topic {request.topic} has another number of partitions"
            )
        if request.idempotent and not parts[0].reliable:
            raise InvalidRequest("INVALID_ARGUMENT", "an idempotent producer needs a reliable topic")
        self.opening, self.topics = request, parts
        self.exclusive = request.access_mode == api.OpenProducer.EXCLUSIVE
        for other in [one for one in self._hub.publishing if one.opening.topic == request.topic]:
            if other.opening.producer_name == request.producer_name:
                other.end()
                other.stream.answer(CallError("ABORTED", "another client has opened the producer"))
            elif other.exclusive or self.exclusive:
                raise ProducerExists("ALREADY_EXISTS", f"topic {request.topic} has an exclusive producer")
        self._hub.publishing.append(self)
        first = parts[0]
        self.stream.answer(
            api.PublishResponse(
                opened=api.Opened(
                    producer_name=request.producer_name,
                    partitions=[
                        api.Partition(
                            topic=topic.name,
                            topic_id=topic.topic_id,
                            last_sequence=topic.sequences.get(request.producer_name, 0)
                            if request.idempotent
                            else 0,
                        )
                        for topic in parts
                    ],
                    reliable=first.reliable,
                    message_bytes_max=MESSAGE_BYTES_MAX,
                    schema=api.Schema(type=api.Schema.Type.Name(int(first.schema.type))),
                )
            )
        )

    def _stored(self, batch: api.PublishBatch) -> api.PublishResponse:
        topic, name = self.topics[batch.partition], self.opening.producer_name
        messages = [wire.StreamMessage.FromString(data) for data in unpack(batch.batch)]
        for index, message in enumerate(messages):
            if why := _misfit(topic.schema.type, message.payload):
                return api.PublishResponse(
                    refused=api.Refused(
                        partition=batch.partition,
                        first_sequence=batch.first_sequence,
                        code=3,
                        message=why,
                        index=index,
                    )
                )
        last = batch.first_sequence + len(messages) - 1
        position = 0
        if not self.opening.idempotent or last > topic.sequences.get(name, 0):
            now_ms = time.time_ns() // 1_000_000
            positions = [
                topic.append(Stored(message.SerializeToString(), message.routing_key, now_ms))
                for message in messages
            ]
            topic.sequences[name] = last
            position = positions[0] if topic.reliable else 0
        return api.PublishResponse(
            stored=api.Stored(
                partition=batch.partition,
                through_sequence=last,
                batches=[api.StoredBatch(first_sequence=batch.first_sequence, first_position=position)],
            )
        )


def _misfit(schema: SchemaType, payload: bytes) -> str:
    try:
        if schema is SchemaType.INT64:
            if not -(1 << 63) <= int(payload) < 1 << 63:
                return "the payload is no 64-bit integer"
        elif schema is SchemaType.STRING:
            payload.decode()
        elif schema is SchemaType.JSON:
            json.loads(payload)
    except ValueError as error:
        return f"the payload does not fit the topic's schema {schema.name}: {error}"
    return ""


class Consuming:
    """The platform's side of one consumer."""

    def __init__(self, hub: Hub, stream: MemoryStream) -> None:
        self._hub = hub
        self.stream = stream
        self._subscribe = api.Subscribe()
        self._credit = Credit()
        self.topics: list[Topic] = []
        self._members: list[Member] = []
        self._told: set[int] = set()

    def take(self, request: api.ConsumeRequest) -> None:
        """Take a request; raises the CallError with which the stream ends."""
        match request.WhichOneof("request"):
            case "subscribe":
                self._take_subscribe(request.subscribe)
            case "credit":
                self._take_credit(request.credit)
            case "ack":
                self._take_ack(request.ack)
            case "nack":
                self._take_nack(request.nack)
            case "seek":
                self._take_seek(request.seek)
            case "pause":
                self._credit.paused = request.pause.paused
        self._hub.changed()

    def has(self, member: Member) -> bool:
        """Whether a member of a subscription is this consumer."""
        return any(one is member for one in self._members)

    def end(self) -> None:
        """The stream has ended."""
        if self not in self._hub.consuming:
            return
        self._hub.consuming.remove(self)
        for topic, member in zip(self.topics, self._members, strict=True):
            subscription = topic.subscriptions[self._subscribe.subscription]
            subscription.leave(member)
            self._tell_active(topic)
        self._hub.changed()

    def deliver(self, topic: Topic, member: Member, position: int, failures: int) -> None:
        """Send a message."""
        data = topic.at(position).data
        index = next(number for number, one in enumerate(self._members) if one is member)
        self.stream.answer(
            api.ConsumeResponse(
                delivery=api.Delivery(
                    topic=index,
                    first_position=position if topic.reliable else 0,
                    batch=pack([(b"", data, b"", len(data), None)], Compression.NONE),
                    redelivered=[api.Redelivered(index=0, failures=failures)] if failures else [],
                )
            )
        )

    def tell_end_of_backlog(self) -> None:
        """Tell of topics of which nothing waits for the first time."""
        for index, topic in enumerate(self.topics):
            if index not in self._told and topic.subscriptions[self._subscribe.subscription].idle:
                self._told.add(index)
                self.stream.answer(api.ConsumeResponse(end_of_backlog=api.EndOfBacklog(topic=index)))

    def join(self) -> None:
        """Take the topics that this consumer is for and does not have yet."""
        request = self._subscribe
        wanted = [topic for name in request.topics for topic in self._hub.parts(name)]
        if request.pattern:
            wanted = [
                topic
                for name, topic in self._hub.topics.items()
                if fnmatch.fnmatchcase(name.partition("-part-")[0], request.pattern)
            ]
        for topic in wanted:
            if topic not in self.topics:
                self._add(topic)

    def _add(self, topic: Topic) -> None:
        request = self._subscribe
        kind, value = StartKind(int(request.start.kind)), request.start.value
        created = topic.subscribe(request.subscription, SubscriptionType(int(request.type)), kind, value)
        member = Member(request.consumer_name, self._credit, request.prefetch, tuple(request.key_filters))
        earlier = topic.subscriptions[request.subscription].join(member)
        self.topics.append(topic)
        self._members.append(member)
        self.stream.answer(
            api.ConsumeResponse(
                topic_added=api.TopicAdded(
                    topic=len(self.topics) - 1,
                    name=topic.name,
                    topic_id=topic.topic_id,
                    reliable=topic.reliable,
                    created=created,
                )
            )
        )
        for session in [one for one in self._hub.consuming if earlier is not None and one.has(earlier)]:
            session.end()
            session.stream.answer(SubscribeDenied("PERMISSION_DENIED", "another client took over"))
        self._tell_active(topic)

    def _tell_active(self, topic: Topic) -> None:
        subscription = topic.subscriptions[self._subscribe.subscription]
        if subscription.type not in (SubscriptionType.EXCLUSIVE, SubscriptionType.FAILOVER):
            return
        for position, member in enumerate(subscription.members):
            for session in self._hub.consuming:
                if session.has(member):
                    index = session.topics.index(topic)
                    active = api.Assignment(topic=index, active=position == 0)
                    session.stream.answer(api.ConsumeResponse(assignment=active))

    def _take_subscribe(self, request: api.Subscribe) -> None:
        self._subscribe = request
        self._take_credit(request.credit)
        if not request.pattern and not request.await_topics:
            for name in request.topics:
                self._hub.found(name)
        self.stream.answer(
            api.ConsumeResponse(subscribed=api.Subscribed(consumer_name=request.consumer_name))
        )
        self._hub.consuming.append(self)
        self.join()

    def _take_credit(self, credit: api.Credit) -> None:
        self._credit.messages_total, self._credit.bytes_total = credit.messages_total, credit.bytes_total

    def _take_ack(self, ack: api.Ack) -> None:
        if ack.ranges or ack.cumulative:
            subscription = self.topics[ack.topic].subscriptions[self._subscribe.subscription]
            member = self._members[ack.topic]
            subscription.ack(member, [(span.first, span.last) for span in ack.ranges])
            if ack.cumulative:
                subscription.ack_cumulative(member, ack.cumulative)
        if ack.ticket:
            self.stream.answer(api.ConsumeResponse(acked=api.Acked(ticket=ack.ticket)))

    def _take_nack(self, nack: api.Nack) -> None:
        loop = asyncio.get_running_loop()
        topic = self.topics[nack.topic]
        subscription = topic.subscriptions[self._subscribe.subscription]
        ranges = [(span.first, span.last) for span in nack.ranges]
        poison, due_s = subscription.nack(
            self._members[nack.topic], ranges, loop.time(), nack.delay_ms / 1000
        )
        dead = subscription.settle(poison)
        self._hub.bury(topic, self._subscribe.subscription, dead, nack.reason)
        if due_s > loop.time():
            loop.call_at(due_s, self._hub.changed)

    def _take_seek(self, seek: api.Seek) -> None:
        for index, topic in enumerate(self.topics):
            if not seek.HasField("topic") or seek.topic == index:
                subscription = topic.subscriptions[self._subscribe.subscription]
                subscription.seek(StartKind(int(seek.start.kind)), seek.start.value)
        self.stream.answer(api.ConsumeResponse(seeked=api.Seeked(ticket=seek.ticket)))


class MemoryReading:
    """A reading: a stream of which only answers are taken."""

    address = ADDRESS

    def __init__(self, hub: Hub, request: api.ReadRequest) -> None:
        (self._topic,) = hub.found(request.topic)
        self._hub = hub
        self._follow = request.follow
        self._next = max(1, self._topic.first(StartKind(int(request.start.kind)), request.start.value))
        self._end = self._topic.end
        if request.HasField("end_position"):
            self._end = min(self._end, request.end_position + 1)
        self._changed = asyncio.Event()
        hub.followers.add(self._changed)

    async def read(self) -> api.ReadResponse:
        """Return the next message; an answer without one is the end."""
        while self._follow and self._next >= self._topic.end:
            self._changed.clear()
            await self._changed.wait()
        if self._next >= (self._topic.end if self._follow else self._end):
            return api.ReadResponse()
        position, data = self._next, self._topic.at(self._next).data
        self._next += 1
        batch = pack([(b"", data, b"", len(data), None)], Compression.NONE)
        return api.ReadResponse(batch=batch, first_position=position)

    def break_off(self, _reason: str = "") -> None:
        """End the reading."""
        self._hub.followers.discard(self._changed)
