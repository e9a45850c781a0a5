"""What every BundleLog promises, in memory and on a real JetStream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from danube_common.bus.nats import NatsBus
from danube_common.errors import LogFull, LogUnavailable, NotFound
from danube_common.log.jetstream import JetStreamLog
from danube_common.log.port import BundleLog, LogBounds, LogEntry
from danube_common.model.bundle import Bundle, Family
from danube_common.nats.stream import PATIENCE_S, READ_BYTES_MAX
from danube_common.tracing.context import TraceContext
from danube_common.tracing.marks import Mark, encode_marks
from danube_harness.memory.log import MemoryLog
from danube_harness.servers.nats_server import NatsServer

TIMEOUT_S = 10.0
BYTES_MAX = 64 << 20
SMALL_BYTES_MAX = 64 << 10

F0 = Bundle(Family.FILE, 0)
F1 = Bundle(Family.FILE, 1)
M0 = Bundle(Family.MEMORY, 0)


class Feed:
    """Collects what a live feed calls back with."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self._changed = asyncio.Event()

    def __call__(self, entry: LogEntry) -> None:
        self.entries.append(entry)
        self._changed.set()

    async def wait_for(self, count: int) -> list[LogEntry]:
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.entries) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.entries


@pytest.fixture(params=["memory", "jetstream"])
async def make_log(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[[int], BundleLog]]:
    """Gives logs of a size bound; the real ones share a server and a connection."""
    if request.param == "memory":
        yield lambda bytes_max: MemoryLog(file_bytes_max=bytes_max, memory_bytes_max=bytes_max)
        return
    async with NatsServer.run(tmp_path) as server:
        bus = await NatsBus.connect(server.url, name="test")
        yield lambda bytes_max: JetStreamLog(
            bus.connection, file_bytes_max=bytes_max, memory_bytes_max=bytes_max
        )
        await bus.close()


@pytest.fixture
async def log(make_log: Callable[[int], BundleLog]) -> BundleLog:
    return make_log(BYTES_MAX)


@pytest.fixture(params=[F0, M0], ids=str)
async def bundle(request: pytest.FixtureRequest, log: BundleLog) -> Bundle:
    opened: Bundle = request.param
    await log.open(opened)
    return opened


async def append(log: BundleLog, bundle: Bundle, frame: bytes, frame_id: str) -> int:
    return (await log.append(bundle, frame, frame_id=frame_id, timeout_s=TIMEOUT_S)).sequence


async def append_many(log: BundleLog, bundle: Bundle, count: int, frame: bytes = b"frame") -> list[int]:
    return [await append(log, bundle, frame, f"{bundle}-{number}") for number in range(count)]


async def read_all(
    log: BundleLog, bundle: Bundle, *, frames_max: int = 1000, bytes_max: int = 8 << 20
) -> list[LogEntry]:
    entries: list[LogEntry] = []
    following = 1
    while batch := await log.read(bundle, following, frames_max=frames_max, bytes_max=bytes_max):
        entries += batch
        following = batch[-1].sequence + 1
    return entries


async def test_a_file_log_counts_from_one(log: BundleLog) -> None:
    await log.open(F0)
    assert await append_many(log, F0, 3) == [1, 2, 3]


async def test_sequences_have_no_gaps_and_frames_keep_their_order(log: BundleLog, bundle: Bundle) -> None:
    frames = [str(number).encode() for number in range(50)]
    sequences = [await append(log, bundle, frame, f"id{frame!r}") for frame in frames]
    assert all(after == before + 1 for before, after in pairwise(sequences))
    entries = await read_all(log, bundle)
    assert [entry.frame for entry in entries] == frames
    assert [entry.sequence for entry in entries] == sequences
    assert await log.bounds(bundle) == LogBounds(sequences[0], sequences[-1])


async def test_bundles_do_not_see_each_other(log: BundleLog) -> None:
    for each in (F0, F1):
        await log.open(each)
        await append(log, each, str(each).encode(), "the same id")
    for each in (F0, F1):
        assert [entry.frame for entry in await read_all(log, each)] == [str(each).encode()]


async def test_a_repeated_frame_id_is_stored_once(log: BundleLog, bundle: Bundle) -> None:
    first = await log.append(bundle, b"frame", frame_id="one", timeout_s=TIMEOUT_S)
    between = await append(log, bundle, b"other", "two")
    again = await log.append(bundle, b"frame", frame_id="one", timeout_s=TIMEOUT_S)
    assert not first.duplicate
    assert again.duplicate
    assert again.sequence == first.sequence
    assert (await log.bounds(bundle)).last_sequence == between
    assert [entry.frame for entry in await read_all(log, bundle)] == [b"frame", b"other"]


async def test_opening_again_changes_nothing(make_log: Callable[[int], BundleLog]) -> None:
    log = make_log(BYTES_MAX)
    for each in (F0, M0):
        await asyncio.gather(*(log.open(each) for _ in range(5)))
        stored = await append_many(log, each, 3)
        await log.open(each)
        assert await log.bounds(each) == LogBounds(stored[0], stored[-1])
        assert len(await read_all(log, each)) == 3


async def test_an_opened_log_is_empty(log: BundleLog, bundle: Bundle) -> None:
    bounds = await log.bounds(bundle)
    assert bounds.first_sequence == bounds.last_sequence + 1
    assert await log.read(bundle, 1, frames_max=10, bytes_max=1 << 20) == []


async def test_the_bounds_of_a_log_never_opened_are_not_found(log: BundleLog) -> None:
    with pytest.raises(NotFound):
        await log.bounds(F1)


async def test_reading_past_the_end_gives_nothing(log: BundleLog, bundle: Bundle) -> None:
    last = (await append_many(log, bundle, 3))[-1]
    for beyond in (last + 1, last + 1000):
        assert await log.read(bundle, beyond, frames_max=10, bytes_max=1 << 20) == []


async def test_a_read_begins_where_it_is_asked_to(log: BundleLog, bundle: Bundle) -> None:
    stored = await append_many(log, bundle, 10)
    entries = await log.read(bundle, stored[4], frames_max=3, bytes_max=1 << 20)
    assert [entry.sequence for entry in entries] == stored[4:7]


async def test_a_read_is_bounded_in_bytes_and_gives_at_least_one_entry(
    log: BundleLog, bundle: Bundle
) -> None:
    frame = bytes(10_000)
    stored = await append_many(log, bundle, 20, frame)
    some = await log.read(bundle, stored[0], frames_max=1000, bytes_max=50_000)
    assert 4 <= len(some) <= 6
    assert [entry.sequence for entry in some] == stored[: len(some)]
    for bytes_max in (0, 1, 9_999):
        one = await log.read(bundle, stored[0], frames_max=1000, bytes_max=bytes_max)
        assert [entry.sequence for entry in one] == stored[:1]


async def test_a_purge_moves_the_floor_and_reads_below_begin_at_it(log: BundleLog, bundle: Bundle) -> None:
    stored = await append_many(log, bundle, 10)
    await log.purge(bundle, stored[3])
    assert await log.bounds(bundle) == LogBounds(stored[4], stored[9])
    for below in (0, 1, stored[3]):
        entries = await log.read(bundle, below, frames_max=2, bytes_max=1 << 20)
        assert [entry.sequence for entry in entries] == stored[4:6]


async def test_marks_come_with_their_entry_to_readers_and_feeds_alike(log: BundleLog, bundle: Bundle) -> None:
    feed = Feed()
    await log.follow(bundle, feed)
    marks = encode_marks([Mark(3, TraceContext(7, 8))])
    await append(log, bundle, b"plain", "one")
    await log.append(bundle, b"marked", frame_id="two", timeout_s=TIMEOUT_S, traces=marks)
    assert [entry.traces for entry in await read_all(log, bundle)] == ["", marks]
    assert [entry.traces for entry in await feed.wait_for(2)] == ["", marks]


async def test_an_entry_says_when_it_was_stored_to_readers_and_feeds_alike(
    log: BundleLog, bundle: Bundle
) -> None:
    feed = Feed()
    await log.follow(bundle, feed)
    before_ms = time.time_ns() // 1_000_000
    await append_many(log, bundle, 3)
    after_ms = time.time_ns() // 1_000_000 + 1
    times = [entry.stored_ms for entry in await read_all(log, bundle)]
    assert [entry.stored_ms for entry in await feed.wait_for(3)] == times == sorted(times)
    assert before_ms <= times[0]
    assert times[-1] <= after_ms


async def test_the_bounds_tell_the_bytes_kept_and_the_age_of_the_oldest_entry(
    log: BundleLog, bundle: Bundle
) -> None:
    empty = await log.bounds(bundle)
    assert (empty.stored_bytes, empty.first_stored_ms) == (0, 0)
    stored = await append_many(log, bundle, 4, b"x" * 1000)
    whole = await log.bounds(bundle)
    assert 4000 <= whole.stored_bytes < 8000
    await log.purge(bundle, stored[1])
    left = await log.bounds(bundle)
    third = (await log.read(bundle, stored[2], frames_max=1, bytes_max=1))[0]
    assert 2000 <= left.stored_bytes < whole.stored_bytes
    assert left.first_stored_ms == third.stored_ms


async def test_a_purge_is_idempotent_and_never_takes_back(log: BundleLog, bundle: Bundle) -> None:
    stored = await append_many(log, bundle, 10)
    for through in (stored[5], stored[5], stored[2], 0, stored[0] - 1):
        await log.purge(bundle, through)
    assert await log.bounds(bundle) == LogBounds(stored[6], stored[9])


async def test_a_purge_past_the_end_empties_the_log_and_keeps_its_numbering(
    log: BundleLog, bundle: Bundle
) -> None:
    last = (await append_many(log, bundle, 3))[-1]
    await log.purge(bundle, last + 1000)
    assert await log.bounds(bundle) == LogBounds(last + 1, last)
    assert await append(log, bundle, b"after", "after") == last + 1
    assert [entry.frame for entry in await read_all(log, bundle)] == [b"after"]


async def test_a_feed_hears_every_append_from_now_on_in_order(log: BundleLog, bundle: Bundle) -> None:
    await append_many(log, bundle, 2)
    feed = Feed()
    await log.follow(bundle, feed)
    frames = [str(number).encode() for number in range(30)]
    stored = [await append(log, bundle, frame, f"live{frame!r}") for frame in frames]
    entries = await feed.wait_for(len(frames))
    assert entries == [LogEntry(*pair) for pair in zip(stored, frames, strict=True)]


async def test_a_duplicate_is_not_fed_again(log: BundleLog, bundle: Bundle) -> None:
    feed = Feed()
    await log.follow(bundle, feed)
    await append(log, bundle, b"one", "one")
    await append(log, bundle, b"one", "one")
    await append(log, bundle, b"two", "two")
    assert [entry.frame for entry in await feed.wait_for(2)] == [b"one", b"two"]


async def test_a_closed_feed_hears_nothing_more(log: BundleLog, bundle: Bundle) -> None:
    closed, witness = Feed(), Feed()
    feed = await log.follow(bundle, closed)
    await log.follow(bundle, witness)
    await append(log, bundle, b"one", "one")
    await closed.wait_for(1)
    await feed.close()
    await feed.close()
    await append(log, bundle, b"two", "two")
    await witness.wait_for(2)
    assert len(closed.entries) == 1


async def test_a_full_log_refuses_stores_nothing_and_takes_frames_again_after_a_purge(
    make_log: Callable[[int], BundleLog],
) -> None:
    log = make_log(SMALL_BYTES_MAX)
    frame = bytes(20_000)
    for each in (F0, M0):
        await log.open(each)
        stored = await append_many(log, each, 3, frame)
        with pytest.raises(LogFull):
            await log.append(each, frame, frame_id="too much", timeout_s=TIMEOUT_S)
        assert await log.bounds(each) == LogBounds(stored[0], stored[2])
        again = await log.append(each, frame, frame_id=f"{each}-0", timeout_s=TIMEOUT_S)
        assert again.duplicate, "a full log still recognises what it has"
        await log.purge(each, stored[0])
        assert await append(log, each, frame, "too much") == stored[2] + 1


async def test_a_thousand_entries_are_read_in_few_reads_bounded_by_bytes(log: BundleLog) -> None:
    await log.open(M0)
    frame = bytes(2000)
    stored = await append_many(log, M0, 1000, frame)
    following, reads, read = 1, 0, []
    while batch := await log.read(M0, following, frames_max=1000, bytes_max=500_000):
        reads += 1
        assert len(batch) * len(frame) <= 520_000
        read += [entry.sequence for entry in batch]
        following = batch[-1].sequence + 1
    assert read == stored
    assert reads <= 5
    whole = await log.read(M0, 1, frames_max=1000, bytes_max=8 << 20)
    assert [entry.sequence for entry in whole] == stored


class TestRealServer:
    @pytest.fixture
    async def connected(self, nats_server: NatsServer) -> AsyncIterator[Callable[[], JetStreamLog]]:
        """Each call gives a log on a connection of its own."""
        async with AsyncExitStack() as stack:
            buses = [await NatsBus.connect(nats_server.url, name=f"test{number}") for number in range(2)]
            for bus in buses:
                stack.push_async_callback(bus.close)
            rest = iter(buses)
            yield lambda: JetStreamLog(
                next(rest).connection, file_bytes_max=256 << 20, memory_bytes_max=BYTES_MAX
            )

    async def test_what_was_acknowledged_survives_a_kill_in_the_middle(
        self, nats_server: NatsServer, connected: Callable[[], JetStreamLog]
    ) -> None:
        log = connected()
        await log.open(F0)
        acknowledged: dict[int, bytes] = {}
        half_way = asyncio.Event()

        async def produce() -> None:
            for number in range(200):
                frame = b"%d" % number + bytes(20_000)
                acknowledged[await append(log, F0, frame, f"id{number}")] = frame
                if number == 50:
                    half_way.set()

        producing = asyncio.create_task(produce())
        await half_way.wait()
        await nats_server.restart()
        await producing
        entries = await read_all(log, F0)
        assert {entry.sequence: entry.frame for entry in entries} == acknowledged
        assert len(entries) == 200, "an append retried across the crash was stored once"

    async def test_a_frame_id_repeated_after_a_crash_is_stored_once(
        self, nats_server: NatsServer, connected: Callable[[], JetStreamLog]
    ) -> None:
        log = connected()
        await log.open(F0)
        first = await append(log, F0, b"frame", "id")
        await nats_server.restart()
        again = await log.append(F0, b"frame", frame_id="id", timeout_s=TIMEOUT_S)
        assert again.duplicate
        assert again.sequence == first
        assert len(await read_all(log, F0)) == 1

    async def test_a_feed_and_a_read_together_miss_nothing_across_a_crash(
        self, nats_server: NatsServer, connected: Callable[[], JetStreamLog]
    ) -> None:
        writer, reader = connected(), connected()
        await writer.open(F0)
        feed = Feed()
        await reader.follow(F0, feed)
        await append(writer, F0, b"before", "1")
        await feed.wait_for(1)
        await nats_server.restart()
        await append(writer, F0, b"between", "2")
        for number in range(3, 100):
            await append(writer, F0, b"after", str(number))
            if feed.entries[-1].sequence == number:
                break
        live = feed.entries[-1].sequence
        filled = await reader.read(F0, 2, frames_max=live, bytes_max=1 << 20)
        assert [entry.sequence for entry in filled][: live - 1] == list(range(2, live + 1))

    async def test_an_append_without_a_server_ends_at_its_deadline(
        self, nats_server: NatsServer, connected: Callable[[], JetStreamLog]
    ) -> None:
        log = connected()
        await log.open(F0)
        await nats_server.kill()
        with pytest.raises(LogUnavailable):
            await log.append(F0, b"frame", frame_id="id", timeout_s=0.2)
        await nats_server.start()
        assert not (await log.append(F0, b"frame", frame_id="id", timeout_s=TIMEOUT_S)).duplicate

    async def test_an_append_to_a_log_that_does_not_exist_is_unavailable(
        self, connected: Callable[[], JetStreamLog]
    ) -> None:
        with pytest.raises(LogUnavailable):
            await connected().append(F1, b"frame", frame_id="id", timeout_s=0.1)

    @pytest.mark.parametrize("first_use", ["append", "read", "bounds"])
    async def test_a_memory_log_is_empty_after_a_restart_and_its_sequences_do_not_go_back(
        self, nats_server: NatsServer, connected: Callable[[], JetStreamLog], first_use: str
    ) -> None:
        log, other = connected(), connected()
        await log.open(M0)
        await other.open(M0)
        feed = Feed()
        await other.follow(M0, feed)
        before = (await append_many(log, M0, 300))[-1]
        await feed.wait_for(300)
        back = asyncio.Event()
        log._connection.on_reconnect(back.set)
        await nats_server.restart()
        await back.wait()
        if first_use == "read":
            async with asyncio.timeout(PATIENCE_S / 2):  # it is not waited for, it is made again
                assert await log.read(M0, before, frames_max=10, bytes_max=1000) == []
        if first_use == "bounds":
            bounds = await log.bounds(M0)
            assert bounds.first_sequence == bounds.last_sequence + 1 > before
        after = await append(log, M0, b"after", "id after")
        assert after > before
        assert await other.read(M0, before, frames_max=10, bytes_max=1000) == [LogEntry(after, b"after")]

    async def test_frames_of_twelve_mebibytes_are_stored_and_read_back(
        self, connected: Callable[[], JetStreamLog]
    ) -> None:
        log = connected()
        await log.open(F0)
        feed = Feed()
        await log.follow(F0, feed)
        frames = [bytes([number]) * (12 << 20) for number in range(3)]
        for number, frame in enumerate(frames):
            await log.append(F0, frame, frame_id=str(number), timeout_s=30)
        assert [entry.frame for entry in await feed.wait_for(3)] == frames
        entries = await read_all(log, F0, bytes_max=READ_BYTES_MAX)
        assert [entry.frame for entry in entries] == frames

    async def test_a_bound_changed_in_the_configuration_is_taken_over(
        self, connected: Callable[[], JetStreamLog]
    ) -> None:
        connection = connected()._connection
        for each in (F0, M0):
            small = JetStreamLog(connection, file_bytes_max=SMALL_BYTES_MAX, memory_bytes_max=SMALL_BYTES_MAX)
            await small.open(each)
            first = await append(small, each, bytes(60_000), "1")
            with pytest.raises(LogFull):
                await append(small, each, bytes(60_000), "2")
            large = JetStreamLog(connection, file_bytes_max=BYTES_MAX, memory_bytes_max=BYTES_MAX)
            await large.open(each)
            assert await append(large, each, bytes(60_000), "2") == first + 1

    async def test_a_log_larger_than_the_servers_store_cannot_be_opened(self, tmp_path: Path) -> None:
        async with NatsServer.run(tmp_path, file_store_bytes_max=1 << 20) as server:
            bus = await NatsBus.connect(server.url, name="test")
            log = JetStreamLog(bus.connection, file_bytes_max=2 << 20, memory_bytes_max=1 << 20)
            with pytest.raises(LogUnavailable, match="insufficient storage"):
                await log.open(F0)
            await bus.close()
