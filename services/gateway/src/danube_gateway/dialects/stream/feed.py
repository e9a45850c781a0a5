"""One topic of a streaming consumer: its session with the topic's owner, and the deliveries out of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, DanubeError, NotFound, Refused, Unavailable
from danube_common.model.names import TopicName
from danube_common.model.subscription import SubscriptionType
from danube_common.rpc.port import Call
from danube_common.wire.owner.subscriptions import (
    CreateSubscription,
    TellLosses,
)
from danube_gateway.consume.admission import create_consumer
from danube_gateway.consume.session import Session, Status, extent
from danube_gateway.consume.sessions import Sessions
from danube_gateway.dialects.errors import to_rpc_error
from danube_gateway.dialects.stream.deliveries import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    batch_of,
    compression_of,
    joined,
    steps_of,
)
from danube_gateway.dialects.stream.model import schema_message, start_of, subscription_type_of
from danube_gateway.dialects.stream.outgoing import Answer, Outgoing
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_stream_pb2 as api

WINDOW_MESSAGES: Final = 10_000
"""Messages of a topic that its owner sent and that the client has not taken; the client's credit bounds them
too."""
PREFETCH: Final = 10_000
"""Unacknowledged messages of a topic, of a client that leaves it to the platform."""
SHARING: Final = (SubscriptionType.SHARED, SubscriptionType.KEY_SHARED)
"""Types whose consumers are active at the same time."""
REOPEN_WAIT_S: Final = 0.2

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
"""Runs work until the stream ends; its error ends the stream."""


class Subscribing:
    """What one client asked for, and the ways to what serves it. All topics of its stream share it.

    Raises InvalidInput for a type, a start or a compression that is none.
    """

    def __init__(
        self,
        call: Call,
        wanted: api.Subscribe,
        resolver: TopicResolver,
        owners: OwnerClient,
        sessions: Sessions,
        spawn: Spawn,
    ) -> None:
        self.call = call
        self.wanted = wanted
        self.kind = subscription_type_of(wanted.type)
        self.start = start_of(wanted.start)
        self.compression = compression_of(wanted.compressions)
        self.resolver = resolver
        self.owners = owners
        self.sessions = sessions
        self.spawn = spawn
        self.outgoing = Outgoing(wanted.credit)


class Feed:
    """One topic of the stream.

    Attributes:
        index: how the stream's messages name it.
        session: the present one; None between two.
        ended: whether the topic is gone.
    """

    def __init__(self, index: int, topic: Topic, subscribing: Subscribing) -> None:
        self.index = index
        self.topic = topic
        self.session: Session | None = None
        self.ended = False
        self._subscribing = subscribing
        self._outgoing = subscribing.outgoing
        self._pump: asyncio.Task[None] | None = None
        self._created = False
        self._active: bool | None = None
        """Whether the client knows that it is the active consumer; None before it was told."""
        self._backlog_told = False
        """Whether the end of the backlog was told since the last delivery."""
        self._lost_told = 0
        self._seeking = False
        """Whether the client has asked for another place, and was not told that it is there."""

    @property
    def name(self) -> str:
        """The topic's name."""
        return self.topic.name

    async def open(self) -> None:
        """Subscribe to the topic, and tell the client. Raises Refused, NotFound, Unavailable."""
        await self._open_session()
        topic = self.topic
        added = api.TopicAdded(
            topic=self.index,
            name=topic.name,
            topic_id=topic.topic_id,
            reliable=topic.strategy.is_reliable,
            created=self._created,
            schema=schema_message(topic.schema),
        )
        self._outgoing.put(Answer.of(topic_added=added))
        if self._subscribing.kind is SubscriptionType.EXCLUSIVE:
            self._tell_active(active=True)

    def run(self) -> None:
        """Begin to move deliveries, unless it goes on already."""
        self._seeking = False
        if not self.ended and (self.session is None or self._pump is None or self._pump.done()):
            self._pump = self._subscribing.spawn(self._run())

    def will_seek(self) -> None:
        """Expect the owner to end the session, since the subscription moves to another place."""
        self._seeking = True

    async def stop(self) -> None:
        """End the session and wait for what moves its deliveries; `run` begins anew."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
            self._pump = None
        self.close()

    def close(self) -> None:
        """End the session."""
        session, self.session = self.session, None
        if session is not None:
            session.on_status = None
            self._subscribing.sessions.close(session)

    def regrant(self) -> None:
        """Tell the owner of the room that there is now."""
        if self.session is not None and self.session.limit(*self._outgoing.room):
            self._subscribing.sessions.regrant(self.session)

    # The session

    async def _open_session(self) -> None:
        subscribing, topic = self._subscribing, self.topic
        wanted = subscribing.wanted
        creation = CreateSubscription(topic.name, wanted.subscription, subscribing.kind, subscribing.start)
        try:
            found = await subscribing.owners.ask(topic.home, creation)
        except AlreadyExists as error:
            raise Refused(str(error)) from None
        self._created |= found.created
        session = await subscribing.sessions.open_whole(topic.home, self._create_and_attach())
        session.limit(*self._outgoing.room)  # there may be more credit by now
        session.on_status = lambda status: self._on_status(session, status)
        self.session, self._backlog_told = session, False

    async def _create_and_attach(self) -> Session:
        subscribing = self._subscribing
        wanted = subscribing.wanted
        consumer = await create_consumer(
            subscribing.owners,
            subscribing.sessions,
            self.topic,
            wanted.subscription,
            subscribing.kind,
            wanted.consumer_name,
            subscribing.call.peer,
            wanted.key_filters,
        )
        return await subscribing.sessions.open(
            consumer.consumer_id,
            subscribing.call.peer,
            wanted.prefetch or consumer.prefetch or PREFETCH,
            window_messages=WINDOW_MESSAGES,
            limit=self._outgoing.room,
        )

    async def _reopen(self) -> bool:
        """Open a session again whose owner has ended it; return False if the topic is gone."""
        while True:
            topic = await self._subscribing.resolver.find(TopicName.parse(self.name))
            if topic is None or topic.topic_id != self.topic.topic_id:
                return False
            try:
                await self._open_session()
            except NotFound:
                return False
            except Unavailable as error:
                _log.warning("subscribing_is_repeated", topic=self.name, error=str(error))
                await asyncio.sleep(REOPEN_WAIT_S)
            else:
                return True

    # Deliveries

    async def _run(self) -> None:
        """Move deliveries until the topic is gone. Raises what ends the stream."""
        while True:
            if self.session is None and not await self._reopen():
                self._end()
                return
            if (session := self.session) is None:
                return
            while await session.arrival():
                if not self._outgoing.may_deliver:
                    await self._outgoing.room_comes()
                    continue
                self._deliver(session)
            end = session.end
            if self._seeking and end is None:
                return  # the seek ended it and goes on
            self.close()
            if end is not None:
                raise end

    def _deliver(self, session: Session) -> None:
        """Put on its way what has arrived, as far as the credit goes."""
        messages_max, bytes_max = self._outgoing.room
        runs = session.take(min(messages_max, BATCH_MESSAGES_MAX), min(bytes_max, BATCH_BYTES_MAX))
        for group in joined(runs, scattered=self._subscribing.wanted.scattered):
            batch = batch_of(group, self._subscribing.compression)
            delivery = api.Delivery(
                topic=self.index,
                first_position=group[0].first,
                batch=batch,
                first_offset=group[0].offset if group[0].first else None,
                steps=steps_of(group),
            )
            for index, failures in session.take_failures(group):
                delivery.redelivered.add(index=index, failures=failures)
            data = api.ConsumeResponse(delivery=delivery).SerializeToString()
            messages, size = extent(group)
            self._outgoing.spend(messages, batch.body_bytes)
            self._tell_active(active=True)
            self._outgoing.put(Answer(data, session, messages, size))
        self._backlog_told &= not runs
        session.limit(*self._outgoing.room)

    # What the client is told

    def _end(self) -> None:
        status = to_rpc_error(NotFound(f"topic {self.name} was deleted"))
        ended = api.TopicEnded(topic=self.index, code=status.code, message=status.message)
        self._outgoing.put(Answer.of(topic_ended=ended))
        self.ended = True

    def _on_status(self, session: Session, status: Status) -> None:
        if self.session is not session:
            return
        self._tell_active(active=not status.standby)
        known = max(status.lost_told, self._lost_told)
        if status.lost > known and not status.standby:
            self._lost_told = status.lost
            self._outgoing.put(Answer.of(lost=api.Lost(topic=self.index, messages=status.lost - known)))
            self._subscribing.spawn(self._note_losses(status.lost))
        if status.caught_up and not self._backlog_told:
            self._backlog_told = True
            self._outgoing.put(Answer.of(end_of_backlog=api.EndOfBacklog(topic=self.index)))

    def _tell_active(self, *, active: bool) -> None:
        if self._active is not active and self._subscribing.kind not in SHARING:
            self._active = active
            self._outgoing.put(Answer.of(assignment=api.Assignment(topic=self.index, active=active)))

    async def _note_losses(self, told: int) -> None:
        request = TellLosses(self.name, self._subscribing.wanted.subscription, told)
        with contextlib.suppress(DanubeError):  # the next consumer is told once more
            await self._subscribing.owners.ask(self.topic.home, request)
