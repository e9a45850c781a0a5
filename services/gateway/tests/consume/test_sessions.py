from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Claim, Layout, encode_record
from danube_common.errors import NotFound, Refused, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.model.ids import make_id
from danube_common.model.run import Run
from danube_common.runtime.metrics import Metrics
from danube_common.wire.delivery import Delivery, encode_delivery
from danube_common.wire.envelope import Done, ErrorReply, Reason
from danube_common.wire.owner.acknowledgements import Acked, Acks
from danube_common.wire.owner.notices import SessionEnded, encode_notice
from danube_common.wire.owner.protocol import OWNER, gateway_subject, owner_subject
from danube_common.wire.owner.sessions import (
    Attach,
    ConsumerFound,
    Credit,
    Detach,
    FindConsumer,
    SessionState,
    Sync,
    Synced,
)
from danube_gateway.consume import sessions as sessions_module
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.session import WINDOW_BYTES, WINDOW_MESSAGES, Session
from danube_gateway.consume.sessions import Sessions
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.metadata import MemoryMetadata

BUNDLE = Bundle.parse("f0")
CONSUMER, OTHER = make_id(BUNDLE, "consumer", "a"), make_id(BUNDLE, "consumer", "b")
PEER = "ipv4:192.0.2.1:4711"
TIMEOUT_S = 20.0


class ScriptedOwner:
    """An owner of one epoch: records requests, answers as scripted, and delivers on demand."""

    def __init__(self, bus: MemoryBus, epoch: int) -> None:
        self.bus = bus
        self.epoch = epoch
        self.attached: list[Attach] = []
        self.detached: list[Detach] = []
        self.acked: list[int] = []
        self.order: list[str] = []
        """The kinds of the requests, in the order in which they came; Leave is a Sync without sessions."""
        self.takes_acks = asyncio.Event()
        self.takes_acks.set()
        self.credits: list[SessionState] = []
        self.synced: list[Sync] = []
        self.sent: dict[int, int] = {}
        self.unknown: list[int] = []
        self.refusal: ErrorReply | None = None
        self.newest = 0
        """The number of the session that another gateway has; a smaller one is refused."""
        self.asked = asyncio.Event()

    async def answer(self, data: bytes) -> bytes:
        request = OWNER.decode_request(data)
        reply: msgspec.Struct = Done()
        if isinstance(request, Acks):
            await self.takes_acks.wait()
            self.acked += [
                position
                for one in request.batches
                for first, last in one.spans()
                for position in range(first, last + 1)
            ]
            reply = Acked([])
        leaves = isinstance(request, Sync) and not request.sessions
        self.order.append("Leave" if leaves else type(request).__name__)
        match request:
            case Attach() if request.session <= self.newest:
                return OWNER.encode(ErrorReply(Reason.REFUSED, "a newer stream of this consumer is open"))
            case Attach():
                self.attached.append(request)
                self.unknown = [one for one in self.unknown if one != request.consumer_id]
                reply = ConsumerFound(
                    request.consumer_id, "c", "/default/t", "s", reliable=True, attached=True
                )
            case FindConsumer(consumer_id):
                reply = ConsumerFound(
                    consumer_id, "c", "/default/t", "s", reliable=True, attached=True, session=self.newest
                )
            case Acks():
                pass
            case Detach():
                self.detached.append(request)
            case Credit(states):
                self.credits.extend(states)
            case Sync():
                self.synced.append(request)
                reply = Synced(list(self.unknown), dict(self.sent))
            case _:
                raise AssertionError(request)
        self.asked.set()
        refused = self.refusal if isinstance(request, Attach | FindConsumer) else None
        return OWNER.encode(refused or reply)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self.asked.clear()
                await self.asked.wait()

    async def deliver(
        self, number: int, *texts: bytes, attach: Attach | None = None, lost: bool = False
    ) -> None:
        request = attach or self.attached[-1]
        self.sent[request.consumer_id] = number
        runs = (Run.of(number * 100, texts),)
        delivery = Delivery(self.epoch, request.consumer_id, request.session, number, runs)
        if not lost:
            await self.bus.publish(gateway_subject(request.gateway), encode_delivery(delivery))

    async def end(self, request: Attach, *, epoch: int = 0, taken_over: bool = False) -> None:
        notice = SessionEnded(
            epoch or self.epoch, request.consumer_id, request.session, "the reason", taken_over
        )
        await self.bus.publish(gateway_subject(request.gateway), encode_notice(notice))


class Scene:
    """The sessions of a gateway, and the successive owners of a bundle."""

    def __init__(self) -> None:
        self.store = MemoryMetadata()
        self.bus = MemoryBus(MemoryHub())
        self.tasks: set[asyncio.Task[None]] = set()
        self.catalogue: Catalogue
        self.acks: Acknowledgements
        self.sessions: Sessions

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        return task

    async def owner(self) -> ScriptedOwner:
        """Start the next owner, and wait until the gateway knows it."""
        epoch = await self.store.put(keys.owner_key(BUNDLE), encode_record(Claim("o", "n")))
        owner = ScriptedOwner(self.bus, epoch)
        await self.bus.serve(owner_subject(BUNDLE, epoch), owner.answer)
        while self.catalogue.epoch(BUNDLE) != epoch:  # noqa: ASYNC110 - a mirror tells nobody
            await asyncio.sleep(0)
        return owner


@asynccontextmanager
async def open_scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await scene.store.put(keys.LAYOUT, encode_record(Layout(1, 1)))
    scene.catalogue = await Catalogue.open(scene.store)
    owners = OwnerClient(scene.bus, scene.catalogue)
    metrics = GatewayMetrics(Metrics("gateway", "1"))
    scene.acks = Acknowledgements(owners, scene.spawn, metrics)
    scene.sessions = Sessions("g", scene.bus, owners, scene.acks, scene.catalogue, scene.spawn, metrics)
    await scene.sessions.start()
    running = scene.spawn(scene.sessions.run(), "sessions")
    try:
        yield scene
    finally:
        running.cancel()
        await scene.sessions.stop()
        for task in scene.tasks:
            task.cancel()
        results = await asyncio.gather(*scene.tasks, return_exceptions=True)
        await scene.catalogue.close()
        await scene.bus.close()
        assert [result for result in results if isinstance(result, Exception)] == []


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(sessions_module, "SYNC_INTERVAL_S", 0.01)
    monkeypatch.setattr(sessions_module, "REATTACH_WAIT_S", 0.001)
    async with open_scene() as scene:
        yield scene


@pytest.fixture
async def owner(scene: Scene) -> ScriptedOwner:
    return await scene.owner()


async def texts(session: Session, count: int) -> list[bytes]:
    got: list[bytes] = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(got) < count:
            batch = await session.next_batch()
            assert batch is not None
            got.extend(message for run in batch for message in run.messages())
    return got


async def over(session: Session) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while await session.next_batch() is not None:
            pass


async def test_a_stream_gets_its_owners_deliveries_in_order(scene: Scene, owner: ScriptedOwner) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    assert owner.attached[0].gateway == scene.sessions.name
    assert owner.attached[0].messages_total == WINDOW_MESSAGES
    await owner.deliver(1, b"a", b"b")
    await owner.deliver(2, b"c")
    assert await texts(session, 3) == [b"a", b"b", b"c"]
    assert (session.topic, session.subscription) == ("/default/t", "s")


async def test_the_streams_of_one_connection_share_its_credit(scene: Scene, owner: ScriptedOwner) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await scene.sessions.open(OTHER, PEER)
    of_first, of_second = (attach.bytes_total for attach in owner.attached)
    assert of_second < of_first == WINDOW_BYTES
    scene.sessions.close(session)
    await scene.sessions.open(CONSUMER, "ipv4:192.0.2.1:9")
    assert owner.attached[-1].bytes_total == WINDOW_BYTES, "another connection has a credit of its own"
    owner.refusal = ErrorReply(Reason.NOT_FOUND, "no such consumer")
    for _ in range(3):
        with pytest.raises(NotFound):
            await scene.sessions.open(CONSUMER, "ipv4:192.0.2.1:10")
    assert owner.attached[-1].bytes_total == WINDOW_BYTES, "a stream that is refused gives its credit back"


async def test_credit_is_renewed_as_the_client_drains(scene: Scene, owner: ScriptedOwner) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, *[b"x"] * 300)
    await texts(session, 300)
    for _ in range(300):
        scene.sessions.drained(session, 1, 1)
    await owner.until(lambda: bool(owner.credits))
    assert WINDOW_MESSAGES + 250 <= owner.credits[0].messages_total <= WINDOW_MESSAGES + 300
    await owner.until(
        lambda: any(s.sessions[0].messages_total == WINDOW_MESSAGES + 300 for s in owner.synced if s.sessions)
    )


async def test_an_unknown_consumer_is_not_found_and_leaves_nothing(
    scene: Scene, owner: ScriptedOwner
) -> None:
    for consumer_id in (0, -1, 1 << 63, make_id(Bundle.parse("f7"), "of a bundle there is not")):
        with pytest.raises(NotFound):
            await scene.sessions.open(consumer_id, PEER)
    assert owner.attached == []
    owner.refusal = ErrorReply(Reason.NOT_FOUND, "no such consumer")
    with pytest.raises(NotFound):
        await scene.sessions.open(CONSUMER, PEER)
    assert not scene.sessions._sessions
    assert await scene.sessions.exists(CONSUMER, 1.0) is False
    owner.refusal = None
    assert await scene.sessions.exists(CONSUMER, 1.0) is True


async def test_a_stream_opened_while_nobody_owns_the_bundle_waits_for_its_owner(scene: Scene) -> None:
    opening = asyncio.create_task(scene.sessions.open(CONSUMER, PEER))
    await asyncio.sleep(0)
    owner = await scene.owner()
    session = await opening
    await owner.deliver(1, b"a")
    assert await texts(session, 1) == [b"a"]


async def test_a_new_owner_gets_the_stream_and_the_old_one_is_not_heard_any_more(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, b"a")
    assert await texts(session, 1) == [b"a"]
    await owner.deliver(2, b"was not taken yet")
    newer = await scene.owner()
    await newer.until(lambda: bool(newer.attached))
    attach = newer.attached[0]
    assert attach.session > owner.attached[0].session
    assert (attach.resumes, attach.received) == (0, 0)
    await owner.deliver(3, b"of the zombie")
    await owner.deliver(1, b"of the zombie", attach=attach)
    await owner.end(attach)
    await newer.deliver(1, b"b")
    assert await texts(session, 1) == [b"b"]
    scene.sessions.close(session)
    await newer.until(lambda: bool(newer.detached))
    assert newer.detached[0].session == attach.session
    assert owner.detached == []


async def test_a_stream_that_a_late_sync_does_not_name_is_newer_than_the_sync(
    scene: Scene, owner: ScriptedOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, may_sync = asyncio.Event(), asyncio.Event()
    sync = scene.sessions._sync

    async def late(*args: Any) -> None:
        listed.set()
        await may_sync.wait()
        await sync(*args)

    monkeypatch.setattr(scene.sessions, "_sync", late)
    await scene.sessions.open(CONSUMER, PEER)
    async with asyncio.timeout(TIMEOUT_S):
        await listed.wait()
    await scene.sessions.open(OTHER, PEER)
    may_sync.set()
    await owner.until(lambda: bool(owner.synced))
    first, second = owner.attached
    assert [state.consumer_id for state in owner.synced[0].sessions] == [CONSUMER]
    assert first.session <= owner.synced[0].newest < second.session
    await owner.until(lambda: owner.synced[-1].newest >= second.session)
    assert {state.consumer_id for state in owner.synced[-1].sessions} == {CONSUMER, OTHER}


async def test_a_lost_delivery_is_asked_for_again(scene: Scene, owner: ScriptedOwner) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, b"a")
    await owner.deliver(2, b"b", lost=True)
    await owner.deliver(3, b"c")
    await owner.until(lambda: len(owner.attached) == 2)
    first, second = owner.attached
    assert (second.resumes, second.received) == (first.session, 1)
    await owner.deliver(1, b"b", b"c")
    assert await texts(session, 3) == [b"a", b"b", b"c"]


async def test_a_lost_last_delivery_is_asked_for_again(scene: Scene, owner: ScriptedOwner) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, b"a")
    await owner.deliver(2, b"b", lost=True)
    await owner.until(lambda: len(owner.attached) == 2)
    assert (owner.attached[1].resumes, owner.attached[1].received) == (owner.attached[0].session, 1)
    await owner.deliver(1, b"b")
    assert await texts(session, 2) == [b"a", b"b"]
    count = len(owner.synced)
    await owner.until(lambda: len(owner.synced) > count + 3)
    assert len(owner.attached) == 2


async def test_a_stream_the_owner_does_not_know_is_attached_again(scene: Scene, owner: ScriptedOwner) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    owner.unknown = [CONSUMER]
    await owner.until(lambda: len(owner.attached) == 2)
    assert owner.attached[1].resumes == 0
    await owner.deliver(1, b"a")
    assert await texts(session, 1) == [b"a"]


async def test_another_stream_of_the_consumer_elsewhere_ends_this_one(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    bystander = await scene.sessions.open(OTHER, PEER)
    attach = owner.attached[0]
    await owner.deliver(1, b"a", attach=attach)
    await owner.end(attach, epoch=owner.epoch - 1)
    await owner.end(Attach(CONSUMER, attach.gateway, attach.session - 1, 0, 0))
    await owner.deliver(2, b"b", attach=attach)
    assert await texts(session, 2) == [b"a", b"b"]
    await owner.end(attach)
    await over(session)
    assert session.end is None
    assert not bystander.closed


async def test_another_stream_of_the_consumer_here_ends_the_older_one(
    scene: Scene, owner: ScriptedOwner
) -> None:
    older = await scene.sessions.open(CONSUMER, PEER)
    newer = await scene.sessions.open(CONSUMER, PEER)
    await over(older)
    assert isinstance(older.end, Refused)
    scene.sessions.close(older)
    await owner.deliver(1, b"a")
    assert await texts(newer, 1) == [b"a"]
    await owner.until(lambda: bool(owner.detached))
    assert [one.session for one in owner.detached] == [owner.attached[0].session]
    assert owner.attached[1].session > owner.attached[0].session


@pytest.mark.parametrize("ahead_s", [-10.0, 3600.0])
async def test_a_stream_is_newer_than_one_of_a_gateway_whose_clock_is_ahead_and_a_late_one_is_not(
    scene: Scene, owner: ScriptedOwner, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    owner.newest = round((time.time() + ahead_s) * 1e6)
    if ahead_s < 0:
        asked_before, next_number = [owner.newest - 1], scene.sessions._next_number
        monkeypatch.setattr(
            scene.sessions, "_next_number", lambda: asked_before.pop() if asked_before else next_number()
        )
        with pytest.raises(Refused):
            await scene.sessions.open(CONSUMER, PEER)
        return
    session = await scene.sessions.open(CONSUMER, PEER)
    assert owner.attached[0].session == session.number > owner.newest
    owner.newest = 0
    await scene.sessions.open(OTHER, PEER)
    assert owner.attached[1].session > session.number


async def test_a_stream_that_its_client_leaves_meanwhile_takes_nothing_from_one_whose_clock_is_ahead(
    scene: Scene, owner: ScriptedOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    ask = scene.sessions._owners.ask

    async def left(bundle: Bundle, request: Any, **options: Any) -> Any:
        found = await ask(bundle, request, **options)
        if isinstance(request, FindConsumer):
            scene.sessions.close(session)
        return found

    monkeypatch.setattr(scene.sessions._owners, "ask", left)
    owner.newest = round((time.time() + 3600) * 1e6)
    owner.unknown = [CONSUMER]
    await owner.until(lambda: bool(owner.detached))
    await asyncio.gather(*[task for task in scene.tasks if task.get_name().startswith("reattach")])
    assert len(owner.attached) == 1


async def test_a_stream_that_may_not_take_over_leaves_the_open_one_as_it_is(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    owner.refusal = ErrorReply(Reason.REFUSED, "another client took over")
    with pytest.raises(Refused, match="took over"):
        await scene.sessions.open(CONSUMER, "ipv4:192.0.2.2:4711")
    assert not session.closed
    await owner.deliver(1, b"a", attach=owner.attached[0])
    assert await texts(session, 1) == [b"a"]


async def test_a_stream_that_another_client_took_over_ends_at_once_with_the_reason(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    (attach,) = owner.attached
    assert PEER in attach.client
    await owner.deliver(1, b"goes to the other client too")
    await owner.end(attach, taken_over=True)
    await over(session)
    assert isinstance(session.end, Refused)


async def test_a_stream_that_may_not_be_attached_again_ends_with_the_reason(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    owner.refusal = ErrorReply(Reason.REFUSED, "the place is taken")
    owner.unknown = [CONSUMER]
    await over(session)
    assert isinstance(session.end, Refused)


async def test_all_open_streams_are_named_to_the_owner_and_closed_ones_are_not(
    scene: Scene, owner: ScriptedOwner
) -> None:
    first, second = await scene.sessions.open(CONSUMER, PEER), await scene.sessions.open(OTHER, PEER)
    await owner.until(lambda: bool(owner.synced) and len(owner.synced[-1].sessions) == 2)
    named = {(state.consumer_id, state.session) for state in owner.synced[-1].sessions}
    assert named == {(CONSUMER, first.number), (OTHER, second.number)}
    scene.sessions.close(first)
    await owner.until(lambda: [s.consumer_id for s in owner.synced[-1].sessions] == [OTHER])
    scene.sessions.close(second)
    await owner.until(lambda: owner.synced[-1].sessions == [])


async def test_a_gateway_that_stops_ends_its_streams_as_unavailable(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await scene.sessions.stop()
    await over(session)
    assert isinstance(session.end, Unavailable)


async def test_garbage_on_the_gateways_subject_harms_nobody(scene: Scene, owner: ScriptedOwner) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    for data in (b"", b"\xd2", b"\xd2" + bytes(40), b"\xc1", b"x" * 100):
        await scene.bus.publish(gateway_subject(scene.sessions.name), data)
    await owner.deliver(1, b"a")
    assert await texts(session, 1) == [b"a"]


async def test_a_second_gateway_process_of_one_instance_gets_its_own_deliveries(scene: Scene) -> None:
    metrics = GatewayMetrics(Metrics("gateway", "2"))
    owners = OwnerClient(scene.bus, scene.catalogue)
    second = Sessions("g", scene.bus, owners, scene.acks, scene.catalogue, scene.spawn, metrics)
    assert second.name != scene.sessions.name


async def test_no_more_streams_are_opened_than_one_sync_can_name(
    scene: Scene, owner: ScriptedOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "SESSIONS_PER_SYNC_MAX", 1)
    session = await scene.sessions.open(CONSUMER, PEER)
    with pytest.raises(Unavailable):
        await scene.sessions.open(OTHER, PEER)
    scene.sessions.close(session)
    await scene.sessions.open(OTHER, PEER)


async def test_a_gateway_that_stops_tells_the_owners_and_leaves_what_waits_to_them(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    other = await scene.sessions.open(OTHER, PEER)
    await owner.deliver(1, b"waits", attach=owner.attached[0])
    await scene.sessions.stop()
    assert "Leave" in owner.order
    scene.sessions.close(session)
    assert owner.detached == [], "one request ended all of them"
    assert [await session.next_batch(), await other.next_batch()] == [None, None]
    assert isinstance(session.end, Unavailable)
    with pytest.raises(Unavailable, match="shutting down"):
        await scene.sessions.open(CONSUMER, PEER)


async def test_a_gateway_that_stops_does_not_wait_for_an_owner_that_is_gone(
    scene: Scene, owner: ScriptedOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "STOP_DETACH_S", 0.05)
    session = await scene.sessions.open(CONSUMER, PEER)
    await scene.store.delete(keys.owner_key(BUNDLE))
    while scene.catalogue.epoch(BUNDLE) is not None:  # noqa: ASYNC110 - a mirror tells nobody
        await asyncio.sleep(0)
    await asyncio.wait_for(scene.sessions.stop(), TIMEOUT_S)
    assert session.closed
    assert owner.detached == []


# Acknowledgements that were answered at once

HERE = Delivered("/default/t", "s", 0)


async def taken(session: Session, count: int) -> list[int]:
    """Take messages off a stream; return their positions."""
    got: list[int] = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(got) < count:
            batch = await session.next_batch()
            assert batch is not None
            got += [position for run in batch for position, _ in run.entries()]
    return got


async def test_an_owner_gets_acknowledgements_before_the_stream_is_detached(
    scene: Scene, owner: ScriptedOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "DETACH_TIMEOUT_S", TIMEOUT_S)
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, b"a", b"b")
    assert await taken(session, 2) == [100, 101]
    owner.takes_acks.clear()
    assert scene.acks.accept(HERE, 100)
    scene.sessions.close(session)
    assert not scene.acks.accept(HERE, 101), "the stream is closed"
    before = len(owner.synced)
    await owner.until(lambda: len(owner.synced) > before + 2)
    assert owner.detached == []
    assert [state.consumer_id for state in owner.synced[-1].sessions] == [CONSUMER], "or the owner ends it"
    owner.takes_acks.set()
    await owner.until(lambda: bool(owner.detached))
    assert set(owner.acked) == {100}
    assert owner.order.index("Acks") < owner.order.index("Detach")
    before = len(owner.synced)
    await owner.until(lambda: any(not sync.sessions for sync in owner.synced[before:]))


async def test_a_subscriber_can_wait_until_streams_that_ended_here_are_detached(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, b"a")
    assert await taken(session, 1) == [100]
    await scene.sessions.until_detached(BUNDLE, "/default/t", "s")  # an open stream is nothing to wait for
    owner.takes_acks.clear()
    assert scene.acks.accept(HERE, 100)
    scene.sessions.close(session)
    waiting = asyncio.create_task(scene.sessions.until_detached(BUNDLE, "/default/t", "s"))
    await scene.sessions.until_detached(BUNDLE, "/default/t", "another")
    assert not waiting.done()
    owner.takes_acks.set()
    await asyncio.wait_for(waiting, TIMEOUT_S)
    assert [detach.consumer_id for detach in owner.detached] == [CONSUMER]


async def test_a_client_that_leaves_while_its_stream_is_opened_leaves_nothing_behind(
    scene: Scene, owner: ScriptedOwner
) -> None:
    created, goes_on = asyncio.Event(), asyncio.Event()

    async def opening() -> Session:
        created.set()
        await goes_on.wait()
        return await scene.sessions.open(CONSUMER, PEER)

    call = asyncio.create_task(scene.sessions.open_whole(BUNDLE, opening()))
    await created.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    next_one = asyncio.create_task(scene.sessions.until_detached(BUNDLE, "/default/t", "s"))
    await asyncio.sleep(0)
    assert not next_one.done()
    goes_on.set()
    await asyncio.wait_for(next_one, TIMEOUT_S)
    assert [detach.consumer_id for detach in owner.detached] == [CONSUMER]


async def test_a_client_that_leaves_while_it_is_refused_keeps_nobody_waiting(
    scene: Scene, owner: ScriptedOwner
) -> None:
    goes_on = asyncio.Event()

    async def opening() -> Session:
        await goes_on.wait()
        raise Refused("the subscription is exclusive")

    call = asyncio.create_task(scene.sessions.open_whole(BUNDLE, opening()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    goes_on.set()
    await asyncio.wait_for(scene.sessions.until_detached(BUNDLE, "/default/t", "s"), TIMEOUT_S)
    assert owner.detached == []


async def test_a_consumer_that_comes_back_attaches_after_its_acknowledgements(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, b"a", b"b")
    await taken(session, 2)
    owner.takes_acks.clear()
    assert scene.acks.accept(HERE, 100)
    scene.sessions.close(session)
    opening = asyncio.create_task(scene.sessions.open(CONSUMER, PEER))
    before = len(owner.synced)
    await owner.until(lambda: len(owner.synced) > before + 2)
    assert len(owner.attached) == 1
    owner.takes_acks.set()
    again = await opening
    owner.sent.clear()
    assert owner.order.index("Acks") < len(owner.order) - owner.order[::-1].index("Attach") - 1
    before = len(owner.synced)
    await owner.until(lambda: len(owner.synced) > before + 2)
    assert not again.closed
    assert len(owner.attached) == 2, "the end of the first stream did not touch the second"


async def test_the_next_owner_gets_what_the_one_before_did_not_confirm_and_then_the_stream(
    scene: Scene, owner: ScriptedOwner
) -> None:
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, b"a", b"b", b"c")
    assert await taken(session, 3) == [100, 101, 102]
    owner.takes_acks.clear()
    assert scene.acks.accept(HERE, 100)
    newer = await scene.owner()
    assert scene.acks.accept(HERE, 101), "delivered by the owner before, on a stream that is still open"
    await newer.until(lambda: bool(newer.attached))
    assert newer.order.index("Acks") < newer.order.index("Attach")
    assert set(newer.acked) >= {100}
    newer.takes_acks.clear()
    assert scene.acks.accept(HERE, 102)
    await newer.deliver(1, b"a", b"b", b"c", b"d", attach=newer.attached[0])
    got = await taken(session, 1)
    assert 102 not in got, "it is acknowledged, and its new owner has not confirmed that"
    assert 103 in got
    newer.takes_acks.set()


async def test_a_gateway_that_stops_leaves_after_its_acknowledgements(
    scene: Scene, owner: ScriptedOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "STOP_DETACH_S", TIMEOUT_S)
    session = await scene.sessions.open(CONSUMER, PEER)
    await owner.deliver(1, b"a")
    await taken(session, 1)
    owner.takes_acks.clear()
    assert scene.acks.accept(HERE, 100)
    stopping = asyncio.create_task(scene.sessions.stop())
    await asyncio.sleep(0.01)
    owner.takes_acks.set()
    await stopping
    assert set(owner.acked) == {100}
    assert owner.order.index("Acks") < owner.order.index("Leave")
