from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import LimitExceeded, LogFull, LogUnavailable, Unavailable
from danube_common.log.port import Appended
from danube_common.model.bundle import Bundle
from danube_common.wire.frame import decode_frame
from danube_common.wire.owner.protocol import non_reliable_subject
from danube_gateway.publish.publisher import (
    PENDING_BYTES_MAX,
    FrameNumbers,
    LogPublisher,
    NonReliablePublisher,
    Publisher,
)
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog

BUNDLE = Bundle.parse("f0")


class TryingLog(MemoryLog):
    """Fails some appends, before or after the frame is stored, and holds them while its gate is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.appending = 0
        self.begun = asyncio.Event()

    async def append(
        self, bundle: Bundle, frame: bytes, *, frame_id: str, timeout_s: float, traces: str = ""
    ) -> Appended:
        self.appending += 1
        assert self.appending == 1, "one frame in flight"
        self.begun.set()
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            failure = self.failures.pop(0) if self.failures else ""
            if failure == "full":
                raise LogFull("full")
            if failure == "refused":
                raise LogUnavailable("not stored")
            appended = await super().append(
                bundle, frame, frame_id=frame_id, timeout_s=timeout_s, traces=traces
            )
            if failure == "unheard":
                raise LogUnavailable("stored, and the answer was lost")
            return appended
        finally:
            self.appending -= 1

    async def stored(self) -> list[list[tuple[int, bytes]]]:
        """Return the messages of each frame with their topics."""
        await self.open(BUNDLE)
        entries = await self.read(BUNDLE, 1, frames_max=10**6, bytes_max=1 << 40)
        return [
            [
                (section.topic_id, section.message(i))
                for section in frame.sections
                for i in range(len(section))
            ]
            for frame in (decode_frame(entry.frame) for entry in entries)
        ]


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def enqueue(publisher: Publisher, topic_id: int, message: bytes) -> asyncio.Future[bool]:
    stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    publisher.enqueue(topic_id, message, stored)
    return stored


async def test_a_message_is_answered_when_the_log_has_it() -> None:
    log = TryingLog()
    publisher = LogPublisher(BUNDLE, FrameNumbers(), log)
    log.gate.clear()
    async with running(publisher):
        done = enqueue(publisher, 7, b"m")
        await log.begun.wait()
        assert not done.done()
        log.gate.set()
        await done
        assert await log.stored() == [[(7, b"m")]]


async def test_what_arrives_while_a_frame_is_in_flight_forms_the_next_one() -> None:
    log = TryingLog()
    publisher = LogPublisher(BUNDLE, FrameNumbers(), log)
    log.gate.clear()
    async with running(publisher):
        first = enqueue(publisher, 7, b"first")
        await log.begun.wait()
        rest = [enqueue(publisher, topic, str(n).encode()) for n in range(50) for topic in (7, 8)]
        log.gate.set()
        await asyncio.gather(first, *rest)
    stored = await log.stored()
    assert stored[0] == [(7, b"first")]
    assert len(stored) == 2
    for topic in (7, 8):
        assert [message for of, message in stored[1] if of == topic] == [str(n).encode() for n in range(50)]


@given(
    st.lists(st.sampled_from(["", "", "full", "refused", "unheard"]), max_size=10),
    st.integers(1, 40),
    st.integers(0, 1 << 32),
)
def test_every_message_gets_an_answer_and_order_is_kept_through_failures(
    failures: list[str], count: int, seed: int
) -> None:
    async def scenario() -> None:
        random = Random(seed)
        log = TryingLog()
        log.failures = failures
        publisher = LogPublisher(BUNDLE, FrameNumbers(), log)
        answers: list[asyncio.Future[bool]] = []
        async with running(publisher):
            for number in range(count):
                answers.append(enqueue(publisher, number % 2, str(number).encode()))
                for _ in range(random.randint(0, 3)):
                    await asyncio.sleep(0)
            results = await asyncio.gather(*answers, return_exceptions=True)
        stored = [message for frame in await log.stored() for message in frame]
        assert len(set(stored)) == len(stored)
        for number, result in enumerate(results):
            if result is True:
                assert (number % 2, str(number).encode()) in stored
            else:
                assert isinstance(result, LogUnavailable)
        for topic in (0, 1):
            numbers = [int(message) for of, message in stored if of == topic]
            assert numbers == sorted(numbers)

    asyncio.run(scenario())


def test_a_frames_id_is_its_own_among_all_processes() -> None:
    numbers = FrameNumbers()
    assert [numbers.next() for _ in range(3)] == [1, 2, 3]
    assert numbers.gateway != FrameNumbers().gateway


async def test_what_waits_is_bounded_and_more_is_refused() -> None:
    log = TryingLog()
    log.gate.clear()
    publisher = LogPublisher(BUNDLE, FrameNumbers(), log)
    size = PENDING_BYTES_MAX // 8
    async with running(publisher):
        taken = [enqueue(publisher, 1, bytes(size))]
        await log.begun.wait()
        taken += [enqueue(publisher, 1, bytes(size)) for _ in range(8)]
        with pytest.raises(LimitExceeded) as refused:
            enqueue(publisher, 1, b"x")
        assert refused.value.limit == "publish_pending_bytes"
        log.gate.set()
        await asyncio.gather(*taken)
        await enqueue(publisher, 1, b"x")


async def test_a_caller_that_went_away_holds_up_nobody() -> None:
    log = TryingLog()
    log.gate.clear()
    publisher = LogPublisher(BUNDLE, FrameNumbers(), log)
    async with running(publisher):
        gone, stays = enqueue(publisher, 1, b"gone"), enqueue(publisher, 1, b"stays")
        await log.begun.wait()
        gone.cancel()
        log.gate.set()
        await stays
        await enqueue(publisher, 1, b"next")
    assert [message for frame in await log.stored() for _, message in frame] == [b"gone", b"stays", b"next"]


async def test_non_reliable_messages_go_to_the_owner_in_frames() -> None:
    hub = MemoryHub()
    bus = MemoryBus(hub)
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    await bus.subscribe(non_reliable_subject(BUNDLE), frames.put_nowait)
    publisher = NonReliablePublisher(BUNDLE, FrameNumbers(), bus)
    async with running(publisher):
        await asyncio.gather(*(enqueue(publisher, 1, str(n).encode()) for n in range(5)))
        section = decode_frame(await frames.get()).sections[0]
        assert [section.message(i) for i in range(len(section))] == [b"0", b"1", b"2", b"3", b"4"]
        hub.disconnect()
        with pytest.raises(Unavailable):
            await enqueue(publisher, 1, b"lost")
        hub.reconnect()
        await enqueue(publisher, 1, b"again")
    await bus.close()


class HeldBus(MemoryBus):
    """Takes no bytes while its gate is shut."""

    def __init__(self, hub: MemoryHub) -> None:
        super().__init__(hub)
        self.gate = asyncio.Event()
        self.publishing = asyncio.Event()

    def publish_at_once(self, subject: str, payload: bytes, traces: str = "") -> bool:  # noqa: ARG002
        return False

    async def publish(self, subject: str, payload: bytes, traces: str = "") -> None:  # noqa: ARG002
        self.publishing.set()
        await self.gate.wait()
        await super().publish(subject, payload)


async def test_a_non_reliable_message_is_answered_at_once_unless_the_bus_takes_no_bytes() -> None:
    bus = HeldBus(MemoryHub())
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    await bus.subscribe(non_reliable_subject(BUNDLE), frames.put_nowait)
    publisher = NonReliablePublisher(BUNDLE, FrameNumbers(), bus)
    async with running(publisher):
        first = [enqueue(publisher, 1, b"0"), enqueue(publisher, 1, b"1")]
        assert all(stored.done() for stored in first)
        await bus.publishing.wait()
        held = enqueue(publisher, 1, b"2")
        assert not held.done()
        bus.gate.set()
        assert await held
        sections = [decode_frame(await frames.get()).sections[0] for _ in range(2)]
        found = [[section.message(i) for i in range(len(section))] for section in sections]
        assert found == [[b"0", b"1"], [b"2"]]
    await bus.close()
