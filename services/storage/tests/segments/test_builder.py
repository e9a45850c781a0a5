from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import CorruptData, LimitExceeded
from danube_common.model.bundle import Bundle, Family
from danube_common.model.position import position_of
from danube_common.segment.format import (
    BLOCK,
    CRC,
    END_MAGIC,
    FOOTER,
    TAIL_BYTES,
    TRAILER_BYTES,
    SegmentKind,
    TopicRange,
    tail_bytes_of,
)
from danube_common.segment.reader import EntryReader, SegmentEntry, SegmentIndex, parse_tail
from danube_common.wire.frame import RawSection, encode_frame, split_frame
from danube_harness.services.segments import BUNDLE, Added, SegmentSample, as_added, crc_of, index_of
from danube_storage.segments import builder as builder_module
from danube_storage.segments.builder import SegmentBuilder

GOLDEN = Path(__file__).with_name("golden")
TOPIC_SAMPLE = SegmentSample(
    topic_id=7,
    block_bytes=128,
    added=[
        (5, 0, 7, [b"hello", b"world"], 100, 1_700_000_000_000),
        (5, 3, 7, [b""], 102, 1_700_000_000_500),
        (9, 1, 7, [b"x" * 90, b"y"], 103, 1_700_000_000_250),
        (12, 4095, 7, [b"last"], 105, 1_700_000_001_000),
    ],
)
BUNDLE_SAMPLE = SegmentSample(
    topic_id=None,
    block_bytes=128,
    added=[
        (1, 0, 7, [b"seven"], 0, 10),
        (1, 1, 3, [b"three", b"three again"], 40, 30),
        (2, 0, 7, [b"seven again"], 1, 20),
        (1 << 36, 0, 1 << 62, [b"far"], 5, 40),
    ],
)
SAMPLES = {"topic-v1.seg": TOPIC_SAMPLE, "bundle-v1.seg": BUNDLE_SAMPLE}


@st.composite
def samples(draw: st.DrawFn) -> SegmentSample:
    topic_ids = draw(st.sampled_from([[5], [1, 7, 1 << 63]]))
    offsets = {topic_id: draw(st.integers(0, 1 << 40)) for topic_id in topic_ids}
    sequence, number = draw(st.integers(1, 1 << 30)), draw(st.integers(0, 10))
    added: list[Added] = []
    for _ in range(draw(st.integers(1, 12))):
        topic_id = draw(st.sampled_from(topic_ids))
        messages = draw(st.lists(st.binary(max_size=24), min_size=1, max_size=4))
        added.append((sequence, number, topic_id, messages, offsets[topic_id], draw(st.integers(0, 50))))
        offsets[topic_id] += len(messages)
        if draw(st.booleans()):
            number += 1
        else:
            sequence, number = sequence + draw(st.integers(1, 5)), 0
    block_bytes = draw(st.sampled_from([1, 100, 300, 1 << 16]))
    return SegmentSample(topic_ids[0] if len(topic_ids) == 1 else None, block_bytes, added)


def read_range(index: SegmentIndex, offset: int, data: bytes) -> list[SegmentEntry]:
    """The entries of whole blocks; raises CorruptData."""
    reader = EntryReader(index, offset)
    entries = reader.feed(data)
    if reader.held_bytes:
        raise CorruptData("an entry is cut short")
    return entries


def read_whole(data: bytes, *, piece_bytes: int = 1 << 20) -> list[SegmentEntry]:
    index = index_of(data)
    reader = EntryReader(index)
    entries: list[SegmentEntry] = []
    for start in range(0, index.info.data_bytes, piece_bytes):
        entries += reader.feed(data[start : min(start + piece_bytes, index.info.data_bytes)])
    reader.finish()
    return entries


@pytest.mark.parametrize("name", SAMPLES)
def test_version_1_is_written_and_read_as_it_always_was(name: str) -> None:
    golden = (GOLDEN / name).read_bytes()
    assert SAMPLES[name].build()[0] == golden
    assert as_added(read_whole(golden)) == SAMPLES[name].added


def test_the_footer_says_what_a_topics_segment_holds() -> None:
    data, built = TOPIC_SAMPLE.build()
    info = index_of(data).info
    assert info == built
    assert (info.kind, info.bundle, info.topic_id) == (SegmentKind.TOPIC, BUNDLE, 7)
    assert (info.entries, info.messages) == (4, 6)
    assert info.topics == (TopicRange(7, position_of(5, 0, 0), position_of(12, 4095, 0), 6, 100),)
    assert info.topics[0].last_offset == 105
    assert (info.published_ms_min, info.published_ms_max) == (1_700_000_000_000, 1_700_000_001_001)


def test_the_footer_says_what_each_topic_has_in_a_bundle_segment() -> None:
    info = index_of(BUNDLE_SAMPLE.build()[0]).info
    assert (info.kind, info.topic_id) == (SegmentKind.BUNDLE, 0)
    assert [(t.topic_id, t.messages, t.first_offset, t.last_offset) for t in info.topics] == [
        (3, 2, 40, 41),
        (7, 2, 0, 1),
        (1 << 62, 1, 5, 5),
    ]
    assert info.first_position == position_of(1, 0, 0)
    assert info.last_position == position_of(1 << 36, 0, 0)


@given(samples(), st.integers(1, 200))
def test_a_segment_is_read_as_it_was_written_in_pieces_of_any_size(
    sample: SegmentSample, piece_bytes: int
) -> None:
    data, info = sample.build()
    assert index_of(data).info == info
    assert as_added(read_whole(data, piece_bytes=piece_bytes)) == sample.added


@given(samples(), st.data())
def test_ranges_from_a_position_give_what_a_whole_read_gives(
    sample: SegmentSample, data: st.DataObject
) -> None:
    segment, info = sample.build()
    index, whole = index_of(segment), read_whole(segment)
    position = data.draw(st.integers(info.first_position - 2, info.last_position + 2))
    read: list[SegmentEntry] = []
    offset = index.offset_of_position(position)
    while offset < info.data_bytes:
        offset, length = index.range_at(offset, data.draw(st.integers(1, 400)))
        read += read_range(index, offset, segment[offset : offset + length])
        offset += length
    wanted = [entry for entry in whole if entry.last_position >= position]
    assert [entry for entry in read if entry.last_position >= position] == wanted
    assert read == whole[len(whole) - len(read) :]


@given(samples(), st.integers(0, 55))
def test_the_first_message_published_at_or_after_a_time_is_not_missed(
    sample: SegmentSample, published_ms: int
) -> None:
    segment, info = sample.build()
    index, whole = index_of(segment), read_whole(segment)
    offset = index.offset_of_time(published_ms)
    read = read_range(index, offset, segment[offset : info.data_bytes]) if offset < info.data_bytes else []
    wanted = [entry for entry in whole if entry.published_ms_max >= published_ms]
    assert [entry for entry in read if entry.published_ms_max >= published_ms] == wanted


def test_a_range_is_whole_blocks_within_its_bound_or_the_one_block_that_is_over_it() -> None:
    data, info = TOPIC_SAMPLE.build()
    index = index_of(data)
    first = index.offset_of_position(0)
    assert index.range_at(first, 1)[1] > 1
    assert index.range_at(first, 1 << 30) == (first, info.data_bytes - first)
    assert index.range_at(info.data_bytes, 100) == (info.data_bytes, 0)
    with pytest.raises(ValueError, match="no block starts"):
        index.range_at(first + 1, 100)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_changed_byte_is_noticed(name: str) -> None:
    data = SAMPLES[name].build()[0]
    for place in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= change
            with pytest.raises(CorruptData):
                read_whole(bytes(damaged))


@given(samples(), st.data())
def test_any_run_of_changed_bytes_is_noticed(sample: SegmentSample, data: st.DataObject) -> None:
    segment = sample.build()[0]
    place = data.draw(st.integers(0, len(segment) - 1))
    run = data.draw(st.binary(min_size=1, max_size=30))
    damaged = (segment[:place] + run + segment[place + len(run) :])[: len(segment)]
    if damaged != segment:
        with pytest.raises(CorruptData):
            read_whole(damaged)


@given(samples(), st.data())
def test_a_flipped_byte_in_a_range_gives_an_error_or_nothing_wrong(
    sample: SegmentSample, data: st.DataObject
) -> None:
    segment, info = sample.build()
    index = index_of(segment)
    offset, length = index.range_at(index.offset_of_position(0), 1 << 20)
    assert offset + length == info.data_bytes
    damaged = bytearray(segment[offset : offset + length])
    damaged[data.draw(st.integers(0, length - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptData):
        read_range(index, offset, bytes(damaged))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_segment_cut_anywhere_at_either_end_is_noticed(name: str) -> None:
    data = SAMPLES[name].build()[0]
    for cut in range(1, len(data)):
        for part in (data[:cut], data[cut:]):
            with pytest.raises(CorruptData):
                read_whole(part)


def test_a_range_cut_short_is_noticed() -> None:
    data, info = TOPIC_SAMPLE.build()
    index = index_of(data)
    offset = index.offset_of_position(0)
    for end in range(offset, info.data_bytes):
        reader = EntryReader(index, offset)
        read = reader.feed(data[offset:end])
        assert as_added(read) == TOPIC_SAMPLE.added[: len(read)]
        with pytest.raises(CorruptData):
            reader.finish()


def test_blocks_of_another_segment_are_noticed_though_intact() -> None:
    other = SegmentSample(7, 128, [(s, n, t, m, o + 1, p) for s, n, t, m, o, p in TOPIC_SAMPLE.added])
    index, foreign = index_of(TOPIC_SAMPLE.build()[0]), other.build()[0]
    offset, length = index.range_at(index.offset_of_position(0), 1 << 20)
    with pytest.raises(CorruptData):
        read_range(index, offset, foreign[offset : offset + length])


@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_no_segment(data: bytes) -> None:
    with pytest.raises(CorruptData):
        parse_tail(data, len(data))
    with pytest.raises(CorruptData):
        tail_bytes_of(data)


@given(st.data())
def test_a_tail_of_nonsense_under_a_right_checksum_is_corrupt_or_consistent(data: st.DataObject) -> None:
    """What a faulty writer would leave: it may be refused, it must not crash a reader."""
    segment, info = TOPIC_SAMPLE.build()
    checked = bytearray(segment[info.data_bytes : -CRC.size - len(END_MAGIC)])
    for _ in range(data.draw(st.integers(1, 3))):
        checked[data.draw(st.integers(0, len(checked) - 1 - TAIL_BYTES.size))] = data.draw(
            st.integers(0, 255)
        )
    damaged = segment[: info.data_bytes] + bytes(checked) + CRC.pack(crc_of(bytes(checked))) + END_MAGIC
    try:
        entries = read_whole(damaged)
    except CorruptData:
        return
    assert as_added(entries) == TOPIC_SAMPLE.added


def test_another_version_is_refused_by_name() -> None:
    segment, info = TOPIC_SAMPLE.build()
    checked = bytearray(segment[info.data_bytes : -CRC.size - len(END_MAGIC)])
    checked[-TAIL_BYTES.size - FOOTER.size] = 2
    damaged = segment[: info.data_bytes] + bytes(checked) + CRC.pack(crc_of(bytes(checked))) + END_MAGIC
    with pytest.raises(CorruptData, match="version 2"):
        read_whole(damaged)


def test_the_index_stays_small_and_right_however_long_the_segment_is() -> None:
    builder = SegmentBuilder(BUNDLE, 7, block_bytes=64, blocks_max=8)
    (raw,) = split_frame(encode_frame(1, 1, [(7, [b"m"])]))
    random_ms = random.Random(1)
    pieces = []
    published = [random_ms.randrange(1000) for _ in range(1000)]
    for sequence, ms in enumerate(published, start=1):
        pieces.append(builder.add(sequence, 0, raw, first_offset=sequence, published_ms=(ms, ms)))
    tail, info = builder.seal()
    assert len(tail) <= 8 * BLOCK.size + tail_overhead()
    data = b"".join((*pieces, tail))
    index = index_of(data)
    for sequence in (1, 2, 499, 777, 1000):
        offset = index.offset_of_position(position_of(sequence, 0, 0))
        assert (
            sequence - 1000 / 4
            <= read_range(index, offset, data[offset : info.data_bytes])[0].sequence
            <= sequence
        )
    latest = max(published)
    offset = index.offset_of_time(latest)
    assert (
        read_range(index, offset, data[offset : info.data_bytes])[0].sequence <= published.index(latest) + 1
    )
    assert index.offset_of_time(latest + 1) == info.data_bytes


def test_a_bundle_segment_holds_a_bounded_number_of_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder_module, "TOPICS_MAX", 2)
    builder = SegmentBuilder(BUNDLE, None)
    for topic_id in (1, 2):
        builder.add(topic_id, 0, raw_section(topic_id), first_offset=0, published_ms=(0, 0))
    size_bytes = builder.size_bytes
    with pytest.raises(LimitExceeded):
        builder.add(3, 0, raw_section(3), first_offset=0, published_ms=(0, 0))
    builder.add(3, 0, raw_section(2), first_offset=1, published_ms=(0, 0))
    assert builder.size_bytes > size_bytes
    assert builder.seal()[1].entries == 3


def test_what_is_out_of_order_or_of_another_topic_is_not_taken() -> None:
    builder = SegmentBuilder(Bundle(Family.FILE, 0), 7)
    builder.add(5, 1, raw_section(7), first_offset=10, published_ms=(0, 0))
    for sequence, number, topic_id, first_offset in [
        (5, 1, 7, 11),
        (5, 0, 7, 11),
        (4, 9, 7, 11),
        (6, 0, 8, 11),
        (6, 0, 7, 12),
        (6, 4096, 7, 11),
    ]:
        with pytest.raises(ValueError, match=r"."):
            builder.add(
                sequence, number, raw_section(topic_id), first_offset=first_offset, published_ms=(0, 0)
            )
    with pytest.raises(ValueError, match="publish times"):
        builder.add(6, 0, raw_section(7), first_offset=11, published_ms=(2, 1))
    builder.seal()
    with pytest.raises(ValueError, match="sealed"):
        builder.add(6, 0, raw_section(7), first_offset=11, published_ms=(0, 0))
    with pytest.raises(ValueError, match="nothing"):
        SegmentBuilder(Bundle(Family.FILE, 0), 7).seal()


def raw_section(topic_id: int) -> RawSection:
    return split_frame(encode_frame(1, 1, [(topic_id, [b"m"])]))[0]


def tail_overhead() -> int:
    return FOOTER.size + TRAILER_BYTES + 40
