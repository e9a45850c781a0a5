"""All consumer streams of this gateway: attached to their owners, and attached again after faults."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine
from typing import Any

import structlog

from danube_common.bus.port import Bus, Subscription
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OWNER_TIMEOUT_S, OwnerClient
from danube_common.errors import CorruptData, DanubeError, NotFound, Refused, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.runtime.service import Spawn
from danube_common.tracing.marks import parse_marks_by_consumer
from danube_common.wire.delivery import MAGICS, Delivery, decode_deliveries
from danube_common.wire.owner.notices import decode_notice, taken_over
from danube_common.wire.owner.protocol import gateway_subject
from danube_common.wire.owner.sessions import (
    SESSIONS_PER_SYNC_MAX,
    SYNC_INTERVAL_S,
    ConsumerFound,
    Credit,
    Detach,
    FindConsumer,
    Sync,
)
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.session import WINDOW_MESSAGES, Arrival, Session, window_bytes
from danube_gateway.consume.traces import TracedSource
from danube_gateway.gateway_metrics import GatewayMetrics

DETACH_TIMEOUT_S = 5.0
STOP_DETACH_S = 1.0
"""A stopping gateway detaches for this long; other owners end its sessions after GATEWAY_SILENCE_S."""
REATTACH_WAIT_S = 0.2
SYNC_TIMEOUT_S = 2.0
SESSIONS_MAX = 50_000
URGENT_PREFETCH_BELOW = 1000
"""A consumer of fewer unacknowledged messages may wait for each acknowledgement: it is forwarded at once."""

_log = structlog.get_logger(__name__)


class Sessions:
    """Opens, feeds, repairs and closes sessions. A consumer id has one session: the newest stream wins."""

    def __init__(
        self,
        instance_id: str,
        bus: Bus,
        owners: OwnerClient,
        acks: Acknowledgements,
        catalogue: Catalogue,
        spawn: Spawn,
        metrics: GatewayMetrics,
    ) -> None:
        self.name = f"{instance_id}-{secrets.token_hex(6)}"
        """Name of this process on the bus; unique, so that a restarted gateway gets no earlier deliveries."""
        self._bus = bus
        self._owners = owners
        self._acks = acks
        self._catalogue = catalogue
        self._spawn = spawn
        self._metrics = metrics
        self._sessions: dict[int, Session] = {}
        self._by_bundle: dict[Bundle, dict[int, Session]] = defaultdict(dict)
        self._leaving: dict[Bundle, dict[Session, asyncio.Event]] = defaultdict(dict)
        """Sessions that ended here and that their owners do not know to have ended, until the event."""
        self._abandoned: dict[Bundle, set[asyncio.Event]] = defaultdict(set)
        """Openings whose clients have left, until the event: then what they opened is closed."""
        self._syncing: set[Bundle] = set()
        self._credit_due: dict[Bundle, dict[int, Session]] = defaultdict(dict)
        self._windows: Counter[str] = Counter()
        """Credit in bytes of all streams of a connection, by client."""
        self._last_number = 0
        self._listener: Subscription | None = None
        self._stopping = False
        catalogue.on_owner(self._owner_changed)

    async def start(self) -> None:
        """Listen for deliveries and notices from owners. Raises BusUnavailable."""
        on_traces = self._on_traces if self._acks.traced else None
        self._listener = await self._bus.subscribe(gateway_subject(self.name), self._on_message, on_traces)

    async def stop(self) -> None:
        """End every stream and detach it, so that owners deliver unacknowledged messages elsewhere at once.

        Messages queued here are dropped: their owners deliver them again.
        """
        self._stopping = True
        sessions = list(self._sessions.values())
        for session in sessions:
            session.close(_shutting_down(), drop=True)
            self._acks.leave(session)
        if self._listener is not None:
            await self._listener.close()
        await asyncio.gather(*(self._leave(bundle) for bundle in {session.bundle for session in sessions}))

    def end_all(self, error: DanubeError) -> None:
        """End every stream that is open now."""
        for session in list(self._sessions.values()):
            session.close(error)

    # Streams

    async def open(
        self,
        consumer_id: int,
        peer: str,
        prefetch: int = 0,
        *,
        window_messages: int = WINDOW_MESSAGES,
        limit: tuple[int, int] | None = None,
    ) -> Session:
        """Attach a new stream of a consumer; an older stream of the consumer ends.

        Args:
            consumer_id: of the consumer.
            peer: the address of the client's connection.
            prefetch: bounds the unacknowledged messages of the consumer; 0 leaves it to the owner.
            window_messages: its credit in messages.
            limit: messages and bytes of credit that it has now, if these are fewer (`Session.limit`).

        Raises NotFound, Refused, Unavailable, LimitExceeded.
        """
        if self._stopping:
            raise _shutting_down()
        bundle = self._catalogue.bundle_of_id(consumer_id)
        if bundle is None:
            raise NotFound(f"consumer {consumer_id} does not exist")
        if len(self._sessions) >= SESSIONS_MAX:
            raise Unavailable(f"this gateway has {SESSIONS_MAX} streams already")
        if len(self._by_bundle[bundle]) >= SESSIONS_PER_SYNC_MAX:
            # A stream that a Sync does not name would be ended by its owner.
            raise Unavailable(f"this gateway has {SESSIONS_PER_SYNC_MAX} streams of bundle {bundle} already")
        client = self.client(peer)
        window = window_bytes(self._windows[client])
        session = Session(
            consumer_id,
            bundle,
            0,
            prefetch=prefetch,
            client=client,
            window_messages=window_messages,
            window_bytes=window,
        )
        if limit is not None:
            session.limit(*limit)
        self._windows[client] += window
        older = self._sessions.get(consumer_id)
        self._register(session)
        try:
            found = await self._attach(session, resumes=False)
        except BaseException:
            if self._forget(session) and older is not None and not older.closed:
                self._register(older)
            session.close()
            self._give_back(session)
            raise
        if older is not None:
            older.close(Refused(taken_over(found.consumer_name)), drop=True)
        self._metrics.sessions.labels(session.topic).inc()
        return session

    async def open_whole(self, bundle: Bundle, opening: Coroutine[Any, Any, Session]) -> Session:
        """Return the session that ``opening`` creates with its consumer.

        A caller that is cancelled meanwhile, because its client has left, leaves nothing behind: the opening
        goes on, and its session is closed. The owner would wait for the consumer's stream otherwise, and
        refuse an exclusive subscription to others for so long.
        """
        task = asyncio.create_task(opening, name=f"open a session of {bundle}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            closed = asyncio.Event()
            self._abandoned[bundle].add(closed)
            self._spawn(self._abandon(bundle, task, closed), f"abandon a session of {bundle}")
            raise

    async def _abandon(self, bundle: Bundle, opening: asyncio.Task[Session], closed: asyncio.Event) -> None:
        try:
            self.close(await opening)
        except DanubeError:
            pass  # nothing was opened
        finally:
            self._abandoned[bundle].discard(closed)
            if not self._abandoned[bundle]:
                del self._abandoned[bundle]
            closed.set()

    def client(self, peer: str) -> str:
        """Return the name of a client's connection that is unique among all gateways."""
        return f"{self.name} {peer}"

    def close(self, session: Session) -> None:
        """Detach a stream that its client left or that was ended."""
        session.close()
        self._acks.leave(session)
        self._give_back(session)
        if session.topic:
            self._metrics.sessions.labels(session.topic).dec()
        self._forget(session)
        if not self._stopping:
            self._leaving[session.bundle][session] = asyncio.Event()
            self._spawn(self._detach(session), f"detach {session.consumer_id}")

    async def until_detached(self, bundle: Bundle, topic: str, subscription: str) -> None:
        """Wait for the detaching of the subscription's streams that have ended here.

        Until then their owner counts their consumers as connected. Each gives up after its own time.
        Streams of the bundle whose clients left while they were opened count, too.
        """
        for closed in list(self._abandoned.get(bundle, ())):
            await closed.wait()
        leaving = self._leaving.get(bundle, {})
        for session, detached in list(leaving.items()):
            if (session.topic, session.subscription) == (topic, subscription):
                await detached.wait()

    def drained(self, session: Session, messages: int, size: int) -> None:
        """Note that the client took messages off its stream."""
        self._metrics.delivered(session.topic, session.consumer_id, messages, size)
        if session.drained(messages, size):
            self.regrant(session)

    def regrant(self, session: Session) -> None:
        """Tell the owner soon of a session's credit."""
        if not session.attaching and not session.closed:
            due = self._credit_due[session.bundle]
            if not due:
                self._spawn(self._grant(session.bundle), f"credit {session.bundle}")
            due[session.consumer_id] = session

    async def exists(self, consumer_id: int, timeout_s: float) -> bool:
        """Ask the owner whether a consumer exists. Raises Unavailable."""
        bundle = self._catalogue.bundle_of_id(consumer_id)
        if bundle is None:
            return False
        try:
            await self._owners.ask(bundle, FindConsumer(consumer_id), timeout_s=timeout_s)
        except NotFound:
            return False
        return True

    async def topic_of(self, consumer_id: int) -> str:
        """Return the topic of a consumer. Raises NotFound, Unavailable."""
        session = self._sessions.get(consumer_id)
        if session is not None and session.topic:
            return session.topic
        bundle = self._catalogue.bundle_of_id(consumer_id)
        if bundle is None:
            raise NotFound(f"consumer {consumer_id} does not exist")
        return (await self._owners.ask(bundle, FindConsumer(consumer_id))).topic

    def _give_back(self, session: Session) -> None:
        """Free the credit of a stream that ended for others of its connection."""
        self._windows[session.client] -= session.window_bytes
        if not self._windows[session.client]:
            del self._windows[session.client]

    def _register(self, session: Session) -> None:
        self._sessions[session.consumer_id] = session
        self._by_bundle[session.bundle][session.consumer_id] = session

    def _forget(self, session: Session) -> bool:
        """Forget a session; return False if another one has its place."""
        if self._sessions.get(session.consumer_id) is not session:
            return False
        del self._sessions[session.consumer_id]
        self._by_bundle[session.bundle].pop(session.consumer_id, None)
        return True

    # Owners

    async def _attach(self, session: Session, *, resumes: bool) -> ConsumerFound:
        await self._confirm_acks(session.bundle, OWNER_TIMEOUT_S)
        if session.closed:
            raise Unavailable("the stream was closed while it was opened")
        epoch = self._catalogue.epoch(session.bundle) or 0
        request = session.attach(self.name, self._next_number(), epoch, resumes=resumes)
        try:
            found = await self._owners.ask(session.bundle, request)
        except Refused:
            if session.closed or not await self._passed_number(session):
                raise
            request = session.attach(self.name, self._next_number(), epoch, resumes=False)
            found = await self._owners.ask(session.bundle, request)
        session.topic, session.subscription = found.topic, found.subscription
        session.reliable, session.generation = found.reliable, found.generation
        session.attaching = False
        if not session.closed:
            delivered = Delivered(found.topic, found.subscription, found.generation)
            session.source = self._acks.join(
                session,
                session.bundle,
                delivered,
                reliable=found.reliable,
                prefetch=0 < (session.prefetch or found.prefetch) < URGENT_PREFETCH_BELOW,
            )
        return found

    async def _confirm_acks(self, bundle: Bundle, timeout_s: float) -> None:
        """Wait for the acknowledgements that were answered: what follows makes the owner deliver again.

        Raises Unavailable.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._acks.confirmed(bundle)
        except TimeoutError:
            raise Unavailable(f"no owner of bundle {bundle} confirmed acknowledgements") from None

    async def _detach(self, session: Session) -> None:
        """Detach a closed session; until then Sync names it, or its messages would be delivered again."""
        try:
            await self._confirm_acks(session.bundle, DETACH_TIMEOUT_S)
            request = Detach(session.consumer_id, session.number)
            await self._owners.ask(session.bundle, request, timeout_s=DETACH_TIMEOUT_S)
        except DanubeError as error:
            _log.warning("detach_failed", consumer=session.consumer_id, error=str(error))
        finally:
            self._leaving[session.bundle].pop(session).set()

    async def _leave(self, bundle: Bundle) -> None:
        """End all streams of a bundle with one empty Sync."""
        try:
            await self._confirm_acks(bundle, STOP_DETACH_S)
            await self._owners.ask(bundle, Sync(self.name, [], self._last_number), timeout_s=STOP_DETACH_S)
        except DanubeError as error:
            _log.warning("detach_all_failed", bundle=str(bundle), error=str(error))

    async def _reattach(self, session: Session, *, resumes: bool) -> None:
        """Attach again until it succeeds, is refused, or the client is gone."""
        while not session.closed:
            try:
                await self._attach(session, resumes=resumes)
            except (NotFound, Refused) as error:
                session.close(None if isinstance(error, NotFound) else error)
                return
            except DanubeError as error:
                _log.warning("reattach_retried", consumer=session.consumer_id, error=str(error))
                await asyncio.sleep(REATTACH_WAIT_S)
                resumes = False
            else:
                return

    def _repair(self, session: Session, *, resumes: bool) -> None:
        if session.attaching or session.closed:
            return
        session.attaching = True
        self._spawn(self._reattach(session, resumes=resumes), f"reattach {session.consumer_id}")

    def _owner_changed(self, bundle: Bundle, epoch: int) -> None:
        for session in self._by_bundle.get(bundle, {}).values():
            if epoch > session.epoch:
                self._repair(session, resumes=False)

    def _next_number(self) -> int:
        """Return a session number greater than any earlier one, also of another gateway if clocks agree."""
        self._last_number = max(self._last_number + 1, _now_us())
        return self._last_number

    async def _passed_number(self, session: Session) -> bool:
        """Return whether the consumer's session has a number of the future; the next number passes it.

        It is of a gateway whose clock is ahead: the stream here is newer all the same, unless its client has
        left. Raises NotFound, Unavailable.
        """
        find = FindConsumer(session.consumer_id)
        newest = (await self._owners.ask(session.bundle, find)).session
        if session.closed or newest <= max(session.number, _now_us()):
            return False
        self._last_number = max(self._last_number, newest)
        return True

    def _on_traces(self, text: str) -> None:
        for consumer_id, marks in parse_marks_by_consumer(text):
            session = self._sessions.get(consumer_id)
            if session is not None and isinstance(session.source, TracedSource):
                session.source.announce(marks)

    def _on_message(self, data: bytes) -> None:
        try:
            if data[0] in MAGICS:
                for delivery in decode_deliveries(data):
                    self._arrive(delivery)
                return
            notice = decode_notice(data)
        except CorruptData as error:
            _log.error("corrupt_delivery_dropped", error=str(error))
            return
        session = self._sessions.get(notice.consumer_id)
        if session is not None and session.number == notice.session and notice.epoch >= session.epoch:
            # What is queued here goes to the client that took over.
            end = Refused(notice.reason) if notice.taken_over else None
            session.close(end, drop=notice.taken_over)

    def _arrive(self, delivery: Delivery) -> None:
        session = self._sessions.get(delivery.consumer_id)
        if session is not None and session.arrive(delivery) is Arrival.GAP:
            self._metrics.gaps.labels(session.topic).inc()
            self._repair(session, resumes=True)

    async def _grant(self, bundle: Bundle) -> None:
        due = self._credit_due.pop(bundle, {})
        states = [session.state() for session in due.values() if not session.closed and not session.attaching]
        if states:
            await self._owners.grant(bundle, Credit(states))

    async def run(self) -> None:
        """Sync with the owners of all bundles that have sessions, until cancelled."""
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            for bundle, sessions in list(self._by_bundle.items()):
                if bundle in self._syncing:
                    continue
                leaving = self._leaving[bundle]
                named = [*sessions.values(), *(one for one in leaving if one.consumer_id not in sessions)]
                if not sessions and not leaving:
                    del self._by_bundle[bundle], self._leaving[bundle]
                self._syncing.add(bundle)
                self._spawn(self._sync(bundle, named, self._last_number), f"sync {bundle}")

    async def _sync(self, bundle: Bundle, sessions: list[Session], newest: int) -> None:
        """Sync with an owner; ``newest`` is the greatest session number when ``sessions`` was made."""
        try:
            states = [session.state() for session in sessions[:SESSIONS_PER_SYNC_MAX]]
            request = Sync(self.name, states, newest)
            synced = await self._owners.ask(bundle, request, timeout_s=SYNC_TIMEOUT_S, repeat=False)
        except DanubeError as error:
            _log.warning("sync_failed", bundle=str(bundle), error=str(error))
            return
        finally:
            self._syncing.discard(bundle)
        unknown, standby, caught_up = set(synced.unknown), set(synced.standby), set(synced.caught_up)
        for session, state in zip(sessions, states, strict=False):
            if session.attaching or session.closed or session.number != state.session:
                continue  # the reply is about an earlier session
            if session.consumer_id in unknown:
                self._repair(session, resumes=False)
                continue
            sent = synced.sent.get(session.consumer_id, 0)
            if session.lost_tail(sent):
                self._metrics.gaps.labels(session.topic).inc()
                self._repair(session, resumes=True)
                continue
            session.tell_status(
                sent,
                standby=session.consumer_id in standby,
                caught_up=session.consumer_id in caught_up,
                losses=synced.losses.get(session.consumer_id, (0, 0)),
            )


def _now_us() -> int:
    return time.time_ns() // 1000


def _shutting_down() -> Unavailable:
    return Unavailable("the gateway is shutting down")
