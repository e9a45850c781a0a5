"""One streaming consumer: its topics, and what the client asks for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

import structlog

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, InvalidInput, NotFound, Unavailable
from danube_common.model.failure_policy import REASON_CHARACTERS_MAX
from danube_common.model.names import TopicName
from danube_common.model.subscription import check_key_filters
from danube_common.rpc.port import Call, RpcError
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.security.roles import Permission
from danube_common.wire.owner.subscriptions import ResetSubscription
from danube_gateway.consume.ack_forwarder import Span
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.sessions import Sessions
from danube_gateway.dialects.errors import to_rpc_error
from danube_gateway.dialects.stream.feed import SHARING, Feed, Subscribing
from danube_gateway.dialects.stream.model import start_of
from danube_gateway.dialects.stream.nacks import Failure, Nacks
from danube_gateway.dialects.stream.outgoing import Answer
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_stream_pb2 as api

TOPICS_MAX: Final = 1000
"""Topics of one stream."""
RANGES_MAX: Final = 10_000
"""Ranges of one Ack or Nack."""
TICKETS_MAX: Final = 1000
"""Acknowledgements of one stream that wait for their answer; at the bound no more requests are read."""
TOPICS_INTERVAL_S: Final = 1.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


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
        self._resolver = resolver
        self._catalogue = catalogue
        self._owners = owners
        self._acks = acks
        self._subscribing = Subscribing(call, wanted, resolver, owners, sessions, self._spawn)
        self._outgoing = self._subscribing.outgoing
        self._feeds: list[Feed] = []
        self._half_closed = False
        """Whether the client asks for nothing more, and all that it asked for is answered."""
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
        check_key_filters(self._subscribing.kind, wanted.key_filters)
        self._put(subscribed=api.Subscribed(consumer_name=wanted.consumer_name))
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
        return self.error is not None or self._half_closed or self._topics_ended

    def answers(self) -> list[Answer]:
        """Return what is to be sent now."""
        return [] if self.error is not None else self._outgoing.take()

    async def changed(self) -> None:
        """Wait until there is something to send, or the stream has ended."""
        await self._outgoing.changed()

    async def close(self) -> None:
        """End the sessions and the tasks."""
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:  # the call may be cancelled meanwhile: its client has left
            for feed in self._feeds:
                feed.close()

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
        feed = Feed(len(self._feeds), topic, self._subscribing)
        await feed.open()
        self._feeds.append(feed)
        feed.run()

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

    @property
    def _topics_ended(self) -> bool:
        """Whether all topics are gone, and none is awaited."""
        return all(feed.ended for feed in self._feeds) and not (
            self._wanted.pattern or self._wanted.await_topics
        )

    def _feed(self, index: int) -> Feed:
        if index >= len(self._feeds):
            raise InvalidInput(f"topic {index} is none of the {len(self._feeds)} of this stream")
        return self._feeds[index]

    # Requests

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for data in requests:
            request = parse_strict(api.ConsumeRequest, data)
            match request.WhichOneof("request"):
                case "credit":
                    self._outgoing.grant(request.credit)
                    self._regrant()
                case "ack":
                    await self._acknowledge(request.ack)
                case "nack":
                    await self._nack(request.nack)
                case "seek":
                    await self._seek(request.seek)
                case "pause":
                    self._outgoing.pause(paused=request.pause.paused)
                    self._regrant()
                case _:
                    raise InvalidInput("after subscribe come credit, ack, nack, seek and pause")
        await asyncio.gather(*self._confirming, self._nacks.told())
        self._half_closed = True
        self._outgoing.wake()

    def _regrant(self) -> None:
        """Let owners send as much as the client takes."""
        for feed in self._feeds:
            feed.regrant()

    async def _acknowledge(self, ack: api.Ack) -> None:
        feed = self._feed(ack.topic)
        spans = spans_of(ack.ranges)
        if ack.cumulative:
            if (kind := self._subscribing.kind) in SHARING:
                raise InvalidInput(f"a {kind.label} subscription has no cumulative acknowledgement")
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
        self._put(acked=api.Acked(ticket=ticket))

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
            feed.will_seek()
            reset = ResetSubscription(feed.name, self._wanted.subscription, start)
            try:
                await self._owners.ask(feed.topic.home, reset)
            except DanubeError as error:
                status = to_rpc_error(error)
                seeked.code, seeked.message = status.code, status.message
                break
            moved.append(feed)
        for feed in moved:
            await feed.stop()
        self._put(seeked=seeked)
        for feed in feeds:
            feed.run()

    # Inside

    def _put(self, **fields: Any) -> None:
        self._outgoing.put(Answer.of(**fields))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="consumer stream")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self.error is None:
            self.error = error
        self._outgoing.wake()


def spans_of(ranges: Any) -> list[tuple[int, int]]:
    """Return ranges of positions as spans. Raises InvalidInput."""
    if len(ranges) > RANGES_MAX:
        raise InvalidInput(f"{len(ranges)} ranges: at most {RANGES_MAX} are taken at once")
    spans = [(each.first, each.last) for each in ranges]
    for first, last in spans:
        if not 0 < first <= last < 1 << 63:
            raise InvalidInput(f"from {first} to {last} is no range of positions")
    return spans
