"""What every StateJournal promises, in memory and on a real JetStream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from danube_common.bus.nats import NatsBus
from danube_common.errors import JournalFenced, LogFull, LogUnavailable, RequestTimeout
from danube_common.journal.jetstream import (
    DEFAULT_BYTES_MAX,
    REPLAY_BATCH_BYTES,
    REPLAY_BATCH_RECORDS,
    JetStreamJournal,
)
from danube_common.journal.port import JournalRecord, StateJournal
from danube_common.model.bundle import Bundle, Family
from danube_common.nats import stream
from danube_common.nats.stream import Stream
from danube_harness.memory.journal import MemoryJournal
from danube_harness.servers.nats_server import NatsServer

TIMEOUT_S = 10.0

F0 = Bundle(Family.FILE, 0)
F1 = Bundle(Family.FILE, 1)
M0 = Bundle(Family.MEMORY, 0)


@pytest.fixture
def bytes_max() -> int:
    return DEFAULT_BYTES_MAX


@pytest.fixture(params=["memory", "jetstream"])
async def journal(
    request: pytest.FixtureRequest, tmp_path: Path, bytes_max: int
) -> AsyncIterator[StateJournal]:
    if request.param == "memory":
        in_memory = MemoryJournal(bytes_max=bytes_max)
        await in_memory.open()
        yield in_memory
        return
    async with NatsServer.run(tmp_path) as server:
        bus = await NatsBus.connect(server.url, name="test")
        real = JetStreamJournal(bus.connection, bytes_max=bytes_max)
        await real.open()
        yield real
        await bus.close()


async def write(journal: StateJournal, bundle: Bundle, *records: bytes, after: int = 0) -> list[int]:
    sequences = []
    for record in records:
        after = await journal.append(bundle, record, expected_sequence=after)
        sequences.append(after)
    return sequences


async def replayed(journal: StateJournal, bundle: Bundle) -> list[JournalRecord]:
    return [record async for record in journal.replay(bundle)]


async def contents(journal: StateJournal, bundle: Bundle) -> list[bytes]:
    return [record.data for record in await replayed(journal, bundle)]


async def test_records_come_back_in_order_with_their_sequences(journal: StateJournal) -> None:
    data = [b"one", b"", b"three", bytes(100_000)]
    sequences = await write(journal, F0, *data)
    records = await replayed(journal, F0)
    assert [record.data for record in records] == data
    assert [record.sequence for record in records] == sequences
    assert all(before < after for before, after in pairwise(sequences))


async def test_a_bundle_without_records_replays_nothing(journal: StateJournal) -> None:
    await write(journal, F0, b"other")
    assert await replayed(journal, F1) == []


async def test_bundles_have_their_own_records_and_fences(journal: StateJournal) -> None:
    last = dict.fromkeys((F0, F1, M0), 0)
    for round_number in range(3):
        for bundle in last:
            data = f"{bundle} {round_number}".encode()
            last[bundle] = await journal.append(bundle, data, expected_sequence=last[bundle])
    for bundle in last:
        assert await contents(journal, bundle) == [f"{bundle} {number}".encode() for number in range(3)]


@pytest.mark.parametrize("offset", [-1, 1])
async def test_a_writer_that_expects_another_last_record_is_fenced(
    journal: StateJournal, offset: int
) -> None:
    first, last = await write(journal, F0, b"one", b"two")
    with pytest.raises(JournalFenced):
        await journal.append(F0, b"late", expected_sequence=last + offset)
    with pytest.raises(JournalFenced):
        await journal.append(F0, b"late", expected_sequence=0)
    with pytest.raises(JournalFenced):
        await journal.append(F0, b"late", expected_sequence=first)
    assert await contents(journal, F0) == [b"one", b"two"]


async def test_of_two_writers_that_know_the_same_record_one_wins(journal: StateJournal) -> None:
    [last] = await write(journal, F0, b"start")
    outcomes = await asyncio.gather(
        *(journal.append(F0, str(number).encode(), expected_sequence=last) for number in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, JournalFenced) for outcome in outcomes) == 4
    assert len(await contents(journal, F0)) == 2


async def test_a_writer_that_expects_a_record_where_none_was_is_fenced(journal: StateJournal) -> None:
    with pytest.raises(JournalFenced):
        await journal.append(F0, b"x", expected_sequence=7)
    assert await replayed(journal, F0) == []


async def test_equal_records_are_all_kept(journal: StateJournal) -> None:
    await write(journal, F0, b"same", b"same", b"same")
    assert await contents(journal, F0) == [b"same"] * 3


async def test_discarding_leaves_the_snapshot_what_follows_it_and_other_bundles(
    journal: StateJournal,
) -> None:
    others = await write(journal, F1, b"other")
    sequences = await write(journal, F0, b"1", b"2", b"snapshot", b"4")
    await write(journal, F1, b"other", after=others[-1])
    for _ in range(2):
        await journal.discard(F0, sequences[2])
        assert await contents(journal, F0) == [b"snapshot", b"4"]
    await journal.discard(F0, sequences[0])
    assert await contents(journal, F0) == [b"snapshot", b"4"]
    assert await contents(journal, F1) == [b"other", b"other"]
    await write(journal, F0, b"5", after=sequences[-1])
    assert await contents(journal, F0) == [b"snapshot", b"4", b"5"]


async def test_the_fence_holds_after_everything_before_the_last_record_is_discarded(
    journal: StateJournal,
) -> None:
    first, last = await write(journal, F0, b"1", b"snapshot")
    await journal.discard(F0, last + 1000)
    assert await contents(journal, F0) == [b"snapshot"]
    for stale in (0, first):
        with pytest.raises(JournalFenced):
            await journal.append(F0, b"late", expected_sequence=stale)
    await write(journal, F0, b"next", after=last)


async def test_discarding_from_an_empty_journal_does_nothing(journal: StateJournal) -> None:
    await journal.discard(F0, 100)
    assert await replayed(journal, F0) == []


async def test_opening_again_changes_nothing(journal: StateJournal) -> None:
    [last] = await write(journal, F0, b"kept")
    await asyncio.gather(*(journal.open() for _ in range(5)))
    assert await contents(journal, F0) == [b"kept"]
    await write(journal, F0, b"next", after=last)


@pytest.mark.parametrize("bytes_max", [100_000])
class TestFullJournal:
    async def test_says_so_and_is_not_taken_for_fenced(self, journal: StateJournal) -> None:
        [last] = await write(journal, F0, bytes(60_000))
        with pytest.raises(LogFull):
            await journal.append(F0, bytes(60_000), expected_sequence=last)
        await write(journal, F0, b"small", after=last)

    async def test_has_a_reserve_for_snapshots_that_make_room_again(self, journal: StateJournal) -> None:
        [others] = await write(journal, F1, bytes(30_000))
        [last] = await write(journal, F0, bytes(60_000))
        for _ in range(3):
            with pytest.raises(LogFull):
                await journal.append(F0, bytes(20_000), expected_sequence=last)
            snapshot = await journal.append(F0, bytes(20_000), expected_sequence=last, reserve=True)
            await journal.discard(F0, last + 1)
            [last] = await write(journal, F0, bytes(40_000), after=snapshot)
        assert [record.sequence for record in await replayed(journal, F1)] == [others]

    async def test_has_a_reserve_that_is_bounded_too(self, journal: StateJournal) -> None:
        [last] = await write(journal, F0, bytes(90_000))
        last = await journal.append(F0, bytes(20_000), expected_sequence=last, reserve=True)
        for _ in range(2):
            with pytest.raises(LogFull):
                await journal.append(F0, bytes(20_000), expected_sequence=last, reserve=True)
        assert len(await replayed(journal, F0)) == 2


class TestRealServer:
    @pytest.fixture
    async def bus(self, nats_server: NatsServer) -> AsyncIterator[NatsBus]:
        bus = await NatsBus.connect(nats_server.url, name="test")
        yield bus
        await bus.close()

    async def test_a_replay_longer_than_a_batch_is_whole(self, bus: NatsBus) -> None:
        journal = JetStreamJournal(bus.connection)
        await journal.open()
        count = REPLAY_BATCH_RECORDS + 5
        data = [str(number).encode() for number in range(count)]
        await write(journal, F0, *data)
        assert await contents(journal, F0) == data
        large = [bytes([number]) * (REPLAY_BATCH_BYTES // 4) for number in range(6)]
        await write(journal, F1, *large)
        assert await contents(journal, F1) == large

    async def test_what_was_acknowledged_and_the_fence_survive_a_kill(
        self, nats_server: NatsServer, bus: NatsBus
    ) -> None:
        journal = JetStreamJournal(bus.connection, append_timeout_s=10)
        await journal.open()
        half_way = asyncio.Event()
        data = [str(number).encode() for number in range(200)]

        async def produce() -> int:
            last = 0
            for number, record in enumerate(data):
                last = await journal.append(F0, record, expected_sequence=last)
                if number == 50:
                    half_way.set()
            return last

        producing = asyncio.create_task(produce())
        await half_way.wait()
        await nats_server.restart()
        last = await producing
        assert await contents(journal, F0) == data, "no record is lost, none is there twice"
        await nats_server.restart()
        with pytest.raises(JournalFenced):
            await journal.append(F0, b"late", expected_sequence=last - 1)
        await write(journal, F0, b"next", after=last)

    @pytest.mark.parametrize("restart", [False, True])
    async def test_a_record_stored_without_its_answer_is_recognised_as_our_own(
        self, nats_server: NatsServer, bus: NatsBus, monkeypatch: pytest.MonkeyPatch, restart: bool
    ) -> None:
        journal = JetStreamJournal(bus.connection)
        await journal.open()
        [last] = await write(journal, F0, b"before")
        sent = Stream.publish
        attempts = 0

        async def lose_the_first_answer(
            self: Stream, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout_s: float
        ) -> tuple[int, bool]:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                await sent(self, subject, payload, headers, timeout_s=timeout_s)
                if restart:
                    await nats_server.restart()
                raise RequestTimeout("the answer is lost")
            return await sent(self, subject, payload, headers, timeout_s=timeout_s)

        monkeypatch.setattr(Stream, "publish", lose_the_first_answer)
        ours = await journal.append(F0, b"ours", expected_sequence=last)
        assert attempts > 1
        records = await replayed(journal, F0)
        assert [record.data for record in records] == [b"before", b"ours"]
        assert records[-1].sequence == ours

    async def test_an_append_made_again_after_it_was_given_up_is_recognised_as_our_own(
        self, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal, other = (
            JetStreamJournal(bus.connection, append_timeout_s=0),
            JetStreamJournal(bus.connection),
        )
        await journal.open()
        [last] = await write(other, F0, b"before")
        sent = Stream.publish

        async def lose_the_answer(
            self: Stream, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout_s: float
        ) -> tuple[int, bool]:
            await sent(self, subject, payload, headers, timeout_s=TIMEOUT_S)
            raise RequestTimeout("the answer is lost")

        with monkeypatch.context() as patched:
            patched.setattr(Stream, "publish", lose_the_answer)
            with pytest.raises(LogUnavailable):
                await journal.append(F0, b"ours", expected_sequence=last)
        with pytest.raises(JournalFenced):
            await other.append(F0, b"ours", expected_sequence=last)
        patient = JetStreamJournal(bus.connection)
        patient._writer_id = journal._writer_id
        ours = await patient.append(F0, b"ours", expected_sequence=last)
        assert [record.sequence for record in await replayed(journal, F0)] == [last, ours]

    async def test_equal_first_records_of_two_bundles_are_both_kept(self, bus: NatsBus) -> None:
        journal = JetStreamJournal(bus.connection)
        await journal.open()
        for bundle in (F0, F1):
            await write(journal, bundle, b"same")
        assert await contents(journal, F0) == await contents(journal, F1) == [b"same"]

    async def test_another_writer_after_our_lost_answer_fences_us(
        self, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal, other = JetStreamJournal(bus.connection), JetStreamJournal(bus.connection)
        await journal.open()
        [last] = await write(journal, F0, b"before")
        sent = Stream.publish
        attempts = 0

        async def be_overtaken(
            self: Stream, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout_s: float
        ) -> tuple[int, bool]:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                await other.append(F0, b"theirs", expected_sequence=last)
                raise RequestTimeout("ours never arrived")
            return await sent(self, subject, payload, headers, timeout_s=timeout_s)

        monkeypatch.setattr(Stream, "publish", be_overtaken)
        with pytest.raises(JournalFenced):
            await journal.append(F0, b"ours", expected_sequence=last)
        assert await contents(journal, F0) == [b"before", b"theirs"]

    async def test_without_a_server_an_append_is_unavailable_not_fenced(
        self, nats_server: NatsServer, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stream, "PATIENCE_S", 0.2)
        journal = JetStreamJournal(bus.connection, append_timeout_s=0.2)
        await journal.open()
        await nats_server.kill()
        with pytest.raises(LogUnavailable):
            await journal.append(F0, b"x", expected_sequence=0)
        with pytest.raises(LogUnavailable):
            await replayed(journal, F0)
        await nats_server.start()
