"""One streaming consumer: its topics, what is on its way to the client, and what the client asks for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, DanubeError, InvalidInput, NotFound, Refused, Unavailable
from danube_common.model.failure_policy import REASON_CHARACTERS_MAX
from danube_common.model.names import TopicName
from danube_common.model.subscription import SubscriptionType, check_key_filters
from danube_common.rpc.port import Call, RpcError
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.security.roles import Permission
from danube_common.wire.owner.subscriptions import (
    CreateSubscription,
    LossTotals,
    ResetSubscription,
    SubscriptionFound,
    TellLosses,
)
from danube_gateway.consume.ack_forwarder import Span
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.admission import create_consumer
from danube_gateway.consume.session import Session, Status, extent
from danube_gateway.consume.sessions import Sessions
from danube_gateway.dialects.errors import to_rpc_error
from danube_gateway.dialects.stream.deliveries import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    ClientCredit,
    batch_of,
    compression_of,
    joined,
    steps_of,
)
from danube_gateway.dialects.stream.model import schema_message, start_of, subscription_type_of
from danube_gateway.dialects.stream.nacks import Failure, Nacks
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_stream_pb2 as api

TOPICS_MAX: Final = 1000
"""Topics of one stream."""
RANGES_MAX: Final = 10_000
"""Ranges of one Ack or Nack."""
TICKETS_MAX: Final = 1000
"""Acknowledgements of one stream that wait for their answer; at the bound no more requests are read."""
WINDOW_MESSAGES: Final = 10_000
"""Messages of a topic that its owner sent and that the client has not taken; the client's credit bounds them
too."""
PREFETCH: Final = 10_000
"""Unacknowledged messages of a topic, of a client that leaves it to the platform."""
TOPICS_INTERVAL_S: Final = 1.0
SHARING: Final = (SubscriptionType.SHARED, SubscriptionType.KEY_SHARED)
"""Types whose consumers are active at the same time."""
REOPEN_WAIT_S: Final = 0.2

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Answer:
    """One message to the client; of a delivery also its session, and what the session counts as taken."""

    data: bytes
    session: Session | None = None
    messages: int = 0
    size: int = 0

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return an answer that is no delivery."""
        return cls(api.ConsumeResponse(**fields).SerializeToString())


class Feed:
    """One topic of the stream.

    Attributes:
        index: how the stream's messages name it.
        session: the present one; None between two.
        pump: the task that moves its deliveries.
        active: whether the client knows that it is the active consumer; None before it was told.
        backlog_told: whether the end of the backlog was told since the last delivery.
        lost_told: how many lost messages the client knows of.
        ended: whether the topic is gone.
        seeking: whether the client has asked for another place, and was not told that it is there.
    """

    def __init__(self, index: int, topic: Topic) -> None:
        self.index = index
        self.topic = topic
        self.session: Session | None = None
        self.pump: asyncio.Task[None] | None = None
        self.created = False
        self.active: bool | None = None
        self.backlog_told = False
        self.lost_told = 0
        self.ended = False
        self.seeking = False

    @property
    def name(self) -> str:
        """The topic's name."""
        return self.topic.name


class ConsumerStream:
    """The state of one Consume call.

    Attributes:
        error: what the stream ends with; None: OK.
    """

    def __init__(
        self,
        call: Call,
        wanted: api.Subscribe,
        resolver: TopicResolver,
        catalogue: Catalogue,
        owners: OwnerClient,
        sessions: Sessions,
        acks: Acknowledgements,
    ) -> None:
        self.error: BaseException | None = None
        self._call = call
        self._wanted = wanted
        self._kind = subscription_type_of(wanted.type)
        self._start = start_of(wanted.start)
        self._compression = compression_of(wanted.compressions)
        self._credit = ClientCredit(wanted.credit)
        self._resolver = resolver
        self._catalogue = catalogue
        self._owners = owners
        self._sessions = sessions
        self._acks = acks
        self._feeds: list[Feed] = []
        self._out: list[Answer] = []
        self._changed = asyncio.Event()
        self._may_send = asyncio.Event()
        self._paused = False
        self._over = False
        """The client has half-closed, or no topic is left."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._tickets = asyncio.Semaphore(TICKETS_MAX)
        self._confirming: set[asyncio.Task[None]] = set()
        self._nacks = Nacks(self._tell_failure)

    # The call

    async def open(self) -> None:
        """Subscribe to the topics that exist.

        Raises InvalidInput, NotFound (a topic, unless it is awaited), Refused, LimitExceeded, Unavailable.
        """
        wanted = self._wanted
        if not wanted.topics and not wanted.pattern:
            raise InvalidInput("subscribe names topics, a pattern, or both")
        check_key_filters(self._kind, wanted.key_filters)
        self._put(Answer.of(subscribed=api.Subscribed(consumer_name=wanted.consumer_name)))
        self._regulate()
        for text in wanted.topics:
            name = TopicName.parse(text)
            self._call.require(Permission.CONSUME, str(name))
            topics = await self._resolver.partitions(name)
            if not topics and not wanted.await_topics:
                raise NotFound(f"topic {name} does not exist")
            for topic in topics:
                await self._add(topic)
        await self._add_new()
        self._spawn(self._watch_topics())

    def read(self, requests: AsyncIterator[bytes]) -> None:
        """Begin to obey the client."""
        self._spawn(self._nacks.run())
        self._spawn(self._read(requests))

    @property
    def ended(self) -> bool:
        """Whether nothing more is sent."""
        return self.error is not None or self._over

    def answers(self) -> list[Answer]:
        """Return what is to be sent now."""
        if self.error is not None:
            return []
        found, self._out = self._out, []
        return found

    async def changed(self) -> None:
        """Wait until there is something to send, or the stream has ended."""
        await self._changed.wait()
        self._changed.clear()

    async def close(self) -> None:
        """End the sessions and the tasks."""
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:  # the call may be cancelled meanwhile: its client has left
            for feed in self._feeds:
                self._end_session(feed)

    def raise_error(self) -> None:
        """Raise what the stream ends with, if it is not OK."""
        if self.error is not None:
            raise self.error

    # Topics

    async def _add(self, topic: Topic) -> None:
        if any(feed.topic.topic_id == topic.topic_id for feed in self._feeds):
            return
        if len(self._feeds) >= TOPICS_MAX:
            raise InvalidInput(f"a stream has at most {TOPICS_MAX} topics")
        self._call.require(Permission.CONSUME, topic.name)
        feed = Feed(len(self._feeds), topic)
        await self._open_session(feed)
        self._feeds.append(feed)
        added = api.TopicAdded(
            topic=feed.index,
            name=topic.name,
            topic_id=topic.topic_id,
            reliable=topic.strategy.is_reliable,
            created=feed.created,
            schema=schema_message(topic.schema),
        )
        self._put(Answer.of(topic_added=added))
        if self._kind is SubscriptionType.EXCLUSIVE:
            self._tell_active(feed, active=True)
        feed.pump = self._spawn(self._pump(feed))

    async def _add_new(self) -> None:
        """Subscribe to topics and partitions that came since the last look."""
        known = {feed.topic.topic_id for feed in self._feeds}
        names = {feed.name for feed in self._feeds}
        for text in self._wanted.topics:
            for topic in self._catalogue.partitions(TopicName.parse(text)):
                if topic.topic_id not in known and (topic.name not in names or self._wanted.await_topics):
                    await self._add(topic)
        if self._wanted.pattern:
            for topic in self._catalogue.matching(self._wanted.pattern):
                if topic.topic_id not in known:
                    with contextlib.suppress(RpcError):  # the client may not consume it
                        self._call.require(Permission.CONSUME, topic.name)
                        await self._add(topic)

    async def _watch_topics(self) -> None:
        seen = self._catalogue.topics_revision
        while True:
            await asyncio.sleep(TOPICS_INTERVAL_S)
            if (now := self._catalogue.topics_revision) == seen:
                continue
            try:
                await self._add_new()
            except (NotFound, Unavailable) as error:
                _log.warning("subscribing_is_repeated", error=str(error))
            else:
                seen = now

    async def _open_session(self, feed: Feed) -> None:
        wanted, topic = self._wanted, feed.topic
        creation = CreateSubscription(topic.name, wanted.subscription, self._kind, self._start)
        try:
            found = await self._owners.ask(topic.home, creation, SubscriptionFound)
        except AlreadyExists as error:
            raise Refused(str(error)) from None
        feed.created |= found.created
        session = await self._sessions.open_whole(topic.home, self._create_and_attach(topic))
        session.limit(*self._room)  # there may be more credit by now
        session.on_status = lambda status: self._on_status(feed, session, status)
        feed.session, feed.backlog_told = session, False

    async def _create_and_attach(self, topic: Topic) -> Session:
        wanted = self._wanted
        consumer = await create_consumer(
            self._owners,
            self._sessions,
            topic,
            wanted.subscription,
            self._kind,
            wanted.consumer_name,
            self._call.peer,
            wanted.key_filters,
        )
        return await self._sessions.open(
            consumer.consumer_id,
            self._call.peer,
            wanted.prefetch or consumer.prefetch or PREFETCH,
            window_messages=WINDOW_MESSAGES,
            limit=self._room,
        )

    def _end_session(self, feed: Feed) -> None:
        session, feed.session = feed.session, None
        if session is not None:
            session.on_status = None
            self._sessions.close(session)

    # Deliveries

    async def _pump(self, feed: Feed) -> None:
        """Move deliveries of one topic until the topic is gone. Raises what ends the stream."""
        while True:
            if feed.session is None and not await self._reopen(feed):
                self._tell_ended(feed)
                return
            if (session := feed.session) is None:
                return
            while await session.arrival():
                if not self._may_send.is_set():
                    await self._may_send.wait()
                    continue
                self._deliver(feed, session)
            end = session.end
            if feed.seeking and end is None:
                return  # the seek ended it and goes on
            self._end_session(feed)
            if end is not None:
                raise end

    def _deliver(self, feed: Feed, session: Session) -> None:
        """Put on its way what has arrived, as far as the credit goes."""
        credit = self._credit
        runs = session.take(min(credit.messages, BATCH_MESSAGES_MAX), min(credit.bytes, BATCH_BYTES_MAX))
        for group in joined(runs, scattered=self._wanted.scattered):
            batch = batch_of(group, self._compression)
            delivery = api.Delivery(
                topic=feed.index,
                first_position=group[0].first,
                batch=batch,
                first_offset=group[0].offset if group[0].first else None,
                steps=steps_of(group),
            )
            for index, failures in session.take_failures(group):
                delivery.redelivered.add(index=index, failures=failures)
            data = api.ConsumeResponse(delivery=delivery).SerializeToString()
            messages, size = extent(group)
            credit.spend(messages, batch.body_bytes)
            self._tell_active(feed, active=True)
            self._put(Answer(data, session, messages, size))
        feed.backlog_told &= not runs
        session.limit(*self._room)
        self._regulate()

    async def _reopen(self, feed: Feed) -> bool:
        """Open a session again whose owner has ended it; return False if the topic is gone."""
        while True:
            topic = await self._resolver.find(TopicName.parse(feed.name))
            if topic is None or topic.topic_id != feed.topic.topic_id:
                return False
            try:
                await self._open_session(feed)
            except NotFound:
                return False
            except Unavailable as error:
                _log.warning("subscribing_is_repeated", topic=feed.name, error=str(error))
                await asyncio.sleep(REOPEN_WAIT_S)
            else:
                return True

    def _tell_ended(self, feed: Feed) -> None:
        status = to_rpc_error(NotFound(f"topic {feed.name} was deleted"))
        ended = api.TopicEnded(topic=feed.index, code=status.code, message=status.message)
        self._put(Answer.of(topic_ended=ended))
        feed.ended = True
        if all(each.ended for each in self._feeds) and not (
            self._wanted.pattern or self._wanted.await_topics
        ):
            self._over = True

    def _on_status(self, feed: Feed, session: Session, status: Status) -> None:
        if feed.session is not session:
            return
        self._tell_active(feed, active=not status.standby)
        known = max(status.lost_told, feed.lost_told)
        if status.lost > known and not status.standby:
            feed.lost_told = status.lost
            self._put(Answer.of(lost=api.Lost(topic=feed.index, messages=status.lost - known)))
            self._spawn(self._note_losses(feed, status.lost))
        if status.caught_up and not feed.backlog_told:
            feed.backlog_told = True
            self._put(Answer.of(end_of_backlog=api.EndOfBacklog(topic=feed.index)))

    def _tell_active(self, feed: Feed, *, active: bool) -> None:
        if feed.active is not active and self._kind not in SHARING:
            feed.active = active
            self._put(Answer.of(assignment=api.Assignment(topic=feed.index, active=active)))

    async def _note_losses(self, feed: Feed, told: int) -> None:
        request = TellLosses(feed.name, self._wanted.subscription, told)
        with contextlib.suppress(DanubeError):  # the next consumer is told once more
            await self._owners.ask(feed.topic.home, request, LossTotals)

    # Requests

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for data in requests:
            request = parse_strict(api.ConsumeRequest, data)
            match request.WhichOneof("request"):
                case "credit":
                    self._credit.grant(request.credit)
                    self._grant()
                case "ack":
                    await self._acknowledge(request.ack)
                case "nack":
                    await self._nack(request.nack)
                case "seek":
                    await self._seek(request.seek)
                case "pause":
                    self._paused = request.pause.paused
                    self._grant()
                case _:
                    raise InvalidInput("after subscribe come credit, ack, nack, seek and pause")
        await asyncio.gather(*self._confirming, self._nacks.told())
        self._over = True
        self._changed.set()

    async def _acknowledge(self, ack: api.Ack) -> None:
        feed = self._feed(ack.topic)
        spans = spans_of(ack.ranges)
        if ack.cumulative:
            if self._kind in SHARING:
                raise InvalidInput(f"a {self._kind.label} subscription has no cumulative acknowledgement")
            spans.append((1, ack.cumulative))
        session = feed.session
        if session is not None and session.source is not None and spans:
            while not session.source.forwarder.has_room:
                await session.source.forwarder.confirmed()
            session.source.accept_spans(session, spans)
        if ack.ticket:
            await self._tickets.acquire()
            confirming = self._spawn(self._confirm(ack.ticket))
            self._confirming.add(confirming)
            confirming.add_done_callback(self._confirming.discard)

    async def _confirm(self, ticket: int) -> None:
        try:
            homes = {feed.topic.home for feed in self._feeds}
            await asyncio.gather(self._nacks.told(), *(self._acks.confirmed(home) for home in homes))
        finally:
            self._tickets.release()
        self._put(Answer.of(acked=api.Acked(ticket=ticket)))

    async def _nack(self, nack: api.Nack) -> None:
        feed = self._feed(nack.topic)
        session = feed.session
        spans = spans_of(nack.ranges)
        if session is None or session.source is None or (unacked := session.source.unacked) is None:
            return
        failure = Failure(
            feed.topic.home, session.source.delivered, nack.delay_ms, nack.reason[:REASON_CHARACTERS_MAX]
        )
        await self._nacks.add(failure, [each for span in spans for each in unacked.overlap(session, *span)])

    async def _tell_failure(self, failure: Failure, span: Span) -> None:
        home, delivered, delay_ms, reason = failure
        await self._acks.nack(home, delivered, span[0], last=span[1], delay_ms=delay_ms, reason=reason)

    async def _seek(self, seek: api.Seek) -> None:
        feeds = [self._feed(seek.topic)] if seek.HasField("topic") else list(self._feeds)
        start = start_of(seek.start)
        moved: list[Feed] = []
        seeked = api.Seeked(ticket=seek.ticket)
        for feed in feeds:
            if feed.ended:
                continue
            feed.seeking = True
            reset = ResetSubscription(feed.name, self._wanted.subscription, start)
            try:
                await self._owners.ask(feed.topic.home, reset, SubscriptionFound)
            except DanubeError as error:
                status = to_rpc_error(error)
                seeked.code, seeked.message = status.code, status.message
                feed.seeking = False
                break
            moved.append(feed)
        for feed in moved:
            await self._stop_pump(feed)
            self._end_session(feed)
        self._put(Answer.of(seeked=seeked))
        for feed in feeds:
            feed.seeking = False
            if not feed.ended and (feed.session is None or feed.pump is None or feed.pump.done()):
                feed.pump = self._spawn(self._pump(feed))

    async def _stop_pump(self, feed: Feed) -> None:
        if feed.pump is not None:
            feed.pump.cancel()
            await asyncio.gather(feed.pump, return_exceptions=True)
            feed.pump = None

    def _feed(self, index: int) -> Feed:
        if index >= len(self._feeds):
            raise InvalidInput(f"topic {index} is none of the {len(self._feeds)} of this stream")
        return self._feeds[index]

    # Inside

    @property
    def _room(self) -> tuple[int, int]:
        """Messages and bytes that may be sent now."""
        credit = self._credit
        return (credit.messages, credit.bytes) if credit.is_open and not self._paused else (0, 0)

    def _grant(self) -> None:
        """Let owners send as much as the client takes."""
        room = self._room
        for feed in self._feeds:
            if feed.session is not None and feed.session.limit(*room):
                self._sessions.regrant(feed.session)
        self._regulate()

    def _regulate(self) -> None:
        if self._room[0]:
            self._may_send.set()
        else:
            self._may_send.clear()

    def _put(self, answer: Answer) -> None:
        self._out.append(answer)
        self._changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="consumer stream")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self.error is None:
            self.error = error
        self._changed.set()


def spans_of(ranges: Any) -> list[tuple[int, int]]:
    """Return ranges of positions as spans. Raises InvalidInput."""
    if len(ranges) > RANGES_MAX:
        raise InvalidInput(f"{len(ranges)} ranges: at most {RANGES_MAX} are taken at once")
    spans = [(each.first, each.last) for each in ranges]
    for first, last in spans:
        if not 0 < first <= last < 1 << 63:
            raise InvalidInput(f"from {first} to {last} is no range of positions")
    return spans
