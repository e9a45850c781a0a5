from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import LogUnavailable
from danube_common.log.port import LogBounds, LogEntry
from danube_common.model.bundle import Bundle, Family
from danube_common.wire.frame import encode_frame, frame_id_of, make_frame_id
from danube_harness.memory.log import MemoryLog
from danube_topic_owner.log_reader import LogExtent, LogReader

FILE, MEMORY = Bundle(Family.FILE, 0), Bundle(Family.MEMORY, 0)
ACTIONS = st.lists(
    st.sampled_from(["append", "append", "append", "live", "live", "live", "drop", "repeat", "fill", "fail"]),
    min_size=5,
    max_size=50,
)
Life = tuple[int, int, list[bool]]
LIVES = st.tuples(st.integers(0, 6), st.integers(0, 6), st.lists(st.booleans(), max_size=4))
"""Of a volatile log: what was read of it, what of the next one is not yet, which looks at that fail."""


class ScriptedFeed:
    async def close(self) -> None:
        pass


class ScriptedLog(MemoryLog):
    """A log whose feed says what the test wants, and that does something during each call."""

    def __init__(self) -> None:
        super().__init__()
        self.live: Callable[[LogEntry], None] = lambda _entry: None
        self.under_way: list[LogEntry] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.failures: list[bool] = []
        self.numbers = 0

    def append_now(self, bundle: Bundle) -> None:
        self.numbers += 1
        frame = encode_frame(id(self), self.numbers, [(1, [b"m"])])
        stored = self._opened(bundle)
        stored.last_sequence += 1
        entry = LogEntry(stored.last_sequence, frame)
        stored.entries.append(entry)
        self.under_way.append(entry)

    async def follow(  # type: ignore[override]
        self, _bundle: Bundle, on_entry: Callable[[LogEntry], None]
    ) -> ScriptedFeed:
        self.live = on_entry
        return ScriptedFeed()

    async def bounds(self, bundle: Bundle) -> LogBounds:
        self._fail()
        answer = await super().bounds(bundle)
        self.meanwhile()
        return answer

    async def read(
        self, bundle: Bundle, from_sequence: int, *, frames_max: int, bytes_max: int
    ) -> list[LogEntry]:
        self._fail()
        self.meanwhile()
        answer = await super().read(bundle, from_sequence, frames_max=min(frames_max, 3), bytes_max=bytes_max)
        self.meanwhile()
        return answer

    def lose_everything(self, bundle: Bundle) -> None:
        self._stored.pop(bundle)
        self.under_way.clear()

    def _fail(self) -> None:
        if self.failures and self.failures.pop(0):
            raise LogUnavailable("not now")


class Listener:
    """What a reader handed over, and where it said that the log began anew."""

    def __init__(self, log: ScriptedLog, bundle: Bundle) -> None:
        self.entries: list[LogEntry] = []
        self.missed: list[int] = []
        self.floors: list[int] = []
        self.restarts = 0
        self.reader = LogReader(
            log,
            bundle,
            LogExtent(),
            self.entries.append,
            self._restarted,
            on_missed=self.missed.append,
            on_floor=lambda: self.floors.append(self.reader.extent.floor),
        )

    def _restarted(self) -> None:
        self.restarts += 1
        self.entries.clear()

    @property
    def sequences(self) -> list[int]:
        return [entry.sequence for entry in self.entries]


async def test_what_was_purged_before_it_was_read_is_told() -> None:
    log = ScriptedLog()
    await log.open(FILE)
    for _ in range(3):
        log.append_now(FILE)
    listener = Listener(log, FILE)
    await listener.reader.open(0, "")
    log.under_way.clear()
    for _ in range(4):
        log.append_now(FILE)
    log.under_way.clear()
    await log.purge(FILE, 5)
    await fill(listener)
    assert (listener.missed, listener.sequences, listener.reader.extent.tail) == ([4], [6, 7], 7)
    for _ in range(2):
        log.append_now(FILE)
    log.under_way.clear()
    await log.purge(FILE, 9)
    await fill(listener)
    assert (listener.missed, listener.sequences, listener.reader.extent.tail) == ([4, 8], [6, 7], 9)
    assert listener.floors[-1] == 10


async def test_a_volatile_log_that_was_purged_is_not_taken_for_a_new_one() -> None:
    log = ScriptedLog()
    await log.open(MEMORY)
    for _ in range(5):
        log.append_now(MEMORY)
    frame_id = frame_id_of((await log.read(MEMORY, 4, frames_max=1, bytes_max=1))[0].frame)
    await log.purge(MEMORY, 5)
    listener = Listener(log, MEMORY)
    await listener.reader.open(4, frame_id)
    listener.reader.check()
    await fill(listener)
    assert (listener.restarts, listener.reader.extent.tail) == (0, 5)
    log.append_now(MEMORY)
    await log.purge(MEMORY, 6)
    listener.reader.check()
    await fill(listener)
    assert (listener.restarts, listener.reader.extent.tail) == (0, 6)


async def fill(listener: Listener) -> None:
    try:
        await listener.reader._fill()
    except LogUnavailable:
        return


@given(ACTIONS, ACTIONS, st.integers(0, 3), st.sampled_from([FILE, MEMORY]))
def test_every_entry_is_handed_over_once_and_in_order(
    script: list[str], meanwhile: list[str], before: int, bundle: Bundle
) -> None:
    async def scenario() -> None:
        log = ScriptedLog()
        await log.open(bundle)
        for _ in range(before):
            log.append_now(bundle)
        log.under_way.clear()
        listener = Listener(log, bundle)
        during = iter(meanwhile)

        def act(action: str) -> None:
            match action:
                case "append":
                    log.append_now(bundle)
                case "live" if log.under_way:
                    log.live(log.under_way.pop(0))
                case "repeat" if log.under_way:
                    log.live(log.under_way[0])
                case "drop" if log.under_way:
                    log.under_way.pop(0)
                case "fail" if listener.reader.extent.tail >= before:
                    log.failures.append(True)

        log.meanwhile = lambda: act(next(during, ""))
        await listener.reader.open(0, "")
        start = listener.reader.extent.tail
        early = len(listener.entries)
        for action in script:
            if action == "fill":
                await fill(listener)
            else:
                act(action)
        log.meanwhile = lambda: None
        log.failures.clear()
        await listener.reader._fill()
        last = (await log.bounds(bundle)).last_sequence
        assert listener.sequences[:early] == list(range(1, early + 1))
        assert listener.sequences[early:] == list(range(start + 1, last + 1))
        assert listener.reader.extent.tail == last
        assert listener.restarts == 0

    asyncio.run(scenario())


@given(st.lists(LIVES, min_size=1, max_size=4))
def test_a_volatile_log_that_began_anew_is_read_from_its_beginning(lives: list[Life]) -> None:
    """Whether the new log is shorter, as long or longer than the old one."""

    async def scenario() -> None:
        log = ScriptedLog()
        await log.open(MEMORY)
        listener = Listener(log, MEMORY)
        await listener.reader.open(0, "")
        restarts = 0
        for live, unseen, failures in lives:
            for _ in range(live):
                log.append_now(MEMORY)
                log.live(log.under_way.pop())
            assert listener.sequences == list(range(1, live + 1))
            log.lose_everything(MEMORY)
            await log.open(MEMORY)
            for _ in range(unseen):
                log.append_now(MEMORY)
            log.failures = list(failures)
            listener.reader.check()
            for _ in range(len(failures) + 1):
                await fill(listener)
            restarts += live > 0
            assert listener.restarts == restarts
            held = await log.read(MEMORY, 1, frames_max=100, bytes_max=1 << 30)
            assert listener.sequences == list(range(1, unseen + 1))
            assert [entry.frame for entry in listener.entries[:3]] == [entry.frame for entry in held]
            log.lose_everything(MEMORY)
            await log.open(MEMORY)
            listener.reader.check()
            await fill(listener)
            restarts += unseen > 0
            assert (listener.restarts, listener.sequences) == (restarts, [])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("seen", "restarts"), [((0, ""), 0), ((2, "mine"), 0), ((2, "other"), 1), ((9, "x"), 1)]
)
async def test_a_new_owner_recognises_the_volatile_log_its_predecessor_read(
    seen: tuple[int, str], restarts: int
) -> None:
    log = ScriptedLog()
    await log.open(MEMORY)
    for _ in range(4):
        log.append_now(MEMORY)
    listener = Listener(log, MEMORY)
    frame_id = make_frame_id(id(log), 2) if seen[1] == "mine" else seen[1]
    await listener.reader.open(seen[0], frame_id)
    assert listener.restarts == restarts
    assert listener.reader.extent.tail == 4
    assert listener.reader.extent.tail_frame_id == make_frame_id(id(log), 4)


async def test_a_feed_that_lost_its_last_entry_is_caught_up_without_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("danube_topic_owner.log_reader.CHECK_INTERVAL_S", 0.001)
    monkeypatch.setattr("danube_topic_owner.log_reader.RETRY_WAIT_S", 0.001)
    log = ScriptedLog()
    await log.open(FILE)
    arrived = asyncio.Event()
    reader = LogReader(
        log,
        FILE,
        LogExtent(),
        lambda _entry: arrived.set(),
        lambda: None,
        on_missed=lambda _sequence: None,
        on_floor=lambda: None,
    )
    await reader.open(0, "")
    running = asyncio.create_task(reader.run())
    log.append_now(FILE)
    log.failures = [True, False, True]
    await arrived.wait()
    assert reader.extent.tail == 1
    running.cancel()
