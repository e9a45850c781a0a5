"""Reads and look-ups of intact segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.model.position import position_of
from danube_common.wire.archive import By, Located
from danube_harness.services.read_harness import frames, open_read_harness, topic
from danube_storage.reading import verified_range

MESSAGES = st.lists(st.binary(max_size=80), min_size=1, max_size=4)


@given(
    st.lists(st.dictionaries(st.sampled_from([1, 2, 3]), MESSAGES, min_size=1), min_size=1, max_size=25),
    st.sets(st.sampled_from([1, 2, 3])),
    st.integers(1, 2000),
    st.data(),
)
async def test_every_message_is_served_once_and_in_order_from_any_position(
    written: list[dict[int, list[bytes]]], shared: set[int], bytes_max: int, data: st.DataObject
) -> None:
    async with open_read_harness() as harness:
        entries = frames(*(list(sections.items()) for sections in written))
        middle = len(entries) // 2
        for part in (entries[:middle], entries[middle:]):
            if part:
                await harness.seal(part, shared=shared)
        for topic_id in (1, 2, 3):
            wanted = [
                (position_of(sequence, list(sections).index(topic_id), i), message)
                for sequence, sections in enumerate(written, start=1)
                for i, message in enumerate(sections.get(topic_id, []))
            ]
            start = data.draw(st.sampled_from([0, *(position for position, _ in wanted)]))
            texts = await harness.texts(topic(topic_id), start, bytes_max=bytes_max)
            assert texts == [message for position, message in wanted if position >= start]
            for by, values in (
                (By.POSITION, [position for position, _ in wanted]),
                (By.TIME, [(position >> 26) * 1000 for position, _ in wanted]),
            ):
                for value in values:
                    expected = values.index(value)
                    located = await harness.history.locate(topic(topic_id), by, value)
                    assert located is not None
                    assert located.position == wanted[expected][0]


async def test_a_message_is_found_by_its_offset_in_segments_of_many_ranges() -> None:
    async with open_read_harness() as harness:
        written = [[(1, [b"x" * 50]), (2, [b"y", b"y"])] for _ in range(60)]
        await harness.seal(frames(*written), shared={2})
        for offset in range(60):
            located = await harness.history.locate(topic(1), By.OFFSET, offset)
            assert located == Located(position_of(offset + 1, 0, 0), offset)
            located = await harness.history.locate(topic(2), By.OFFSET, 2 * offset + 1)
            assert located == Located(position_of(offset + 1, 1, 1), 2 * offset + 1)


@pytest.mark.parametrize("shared", [set[int](), {1, 2}])
async def test_no_answer_is_more_than_the_bus_carries(
    monkeypatch: pytest.MonkeyPatch, shared: set[int]
) -> None:
    """A huge entry comes alone, however much was asked for."""
    monkeypatch.setattr(verified_range, "HUGE_BYTES", 1000)
    async with open_read_harness() as harness:
        sizes = [100, 100, 2000, 100, 3000, 3000, 100, 900, 900]
        written = [[(1, [bytes([65 + n]) * size]), (2, [b"other"])] for n, size in enumerate(sizes)]
        await harness.seal(frames(*written), shared=shared)
        wanted = [sections[0][1][0] for sections in written]
        for bytes_max in (1, 1000, 100_000):
            assert await harness.texts(topic(1), bytes_max=bytes_max) == wanted
        position = 0
        while batch := (await harness.history.read(topic(1), position, bytes_max=1000)):
            if not batch.entries:
                break
            bodies = [len(entry.raw.body) for entry in batch.entries]
            assert max(bodies) <= 1000 or len(bodies) == 1
            position = batch.next_position
