from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import CorruptData
from danube_common.model.position import MESSAGES_PER_SECTION_MAX, SECTIONS_PER_FRAME_MAX
from danube_common.wire import frame as frame_module
from danube_common.wire.frame import (
    IDEMPOTENT,
    ProducerBatch,
    decode_frame,
    encode_frame,
    encode_section,
    frame_id_of,
    make_frame_id,
    producer_batch_of,
    sequence_key,
    split_frame,
)

U64 = st.integers(0, (1 << 64) - 1)
SECTIONS = st.lists(
    st.tuples(U64, st.lists(st.binary(max_size=40), min_size=1, max_size=6)),
    max_size=5,
    unique_by=lambda section: section[0],
)
FRAMES = st.tuples(U64, U64, SECTIONS)

GOLDEN = bytes.fromhex(
    "444e4246010002000807060504030201090000000000000007000000000000000200000012000000166e124dffffffff"
    "ffffff7f0100000004000000c74b67485ede572f050000000a00000068656c6c6f776f726c6400000000"
)
"""Version 1, as it lies in logs and segments: gateway 0x0102030405060708, number 9."""
GOLDEN_SECTIONS = [(7, [b"hello", b"world"]), ((1 << 63) - 1, [b""])]


def test_version_1_is_written_and_read_as_it_always_was() -> None:
    assert encode_frame(0x0102030405060708, 9, GOLDEN_SECTIONS) == GOLDEN
    frame = decode_frame(GOLDEN)
    assert (frame.gateway, frame.number) == (0x0102030405060708, 9)
    assert [(s.topic_id, [s.message(i) for i in range(len(s))]) for s in frame.sections] == GOLDEN_SECTIONS


@given(FRAMES)
def test_a_frame_is_read_as_it_was_written(
    given_frame: tuple[int, int, list[tuple[int, list[bytes]]]],
) -> None:
    gateway, number, sections = given_frame
    data = encode_frame(gateway, number, sections)
    frame = decode_frame(data)
    assert (frame.gateway, frame.number) == (gateway, number)
    assert [(s.topic_id, [s.message(i) for i in range(len(s))]) for s in frame.sections] == sections
    assert frame_id_of(data) == frame.frame_id == make_frame_id(gateway, number)


@given(FRAMES)
def test_a_frame_of_large_messages_is_written_as_one_of_small_ones(
    given_frame: tuple[int, int, list[tuple[int, list[bytes]]]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame_module, "JOINED_BYTES_MAX", 0)
        large = encode_frame(*given_frame)
    assert large == encode_frame(*given_frame)


@given(FRAMES, st.data())
def test_a_changed_byte_is_noticed(
    given_frame: tuple[int, int, list[tuple[int, list[bytes]]]], data: st.DataObject
) -> None:
    frame = bytearray(encode_frame(*given_frame))
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptData):
        decode_frame(bytes(frame))


@pytest.mark.parametrize("cut", range(len(GOLDEN)))
def test_a_cut_frame_is_noticed(cut: int) -> None:
    with pytest.raises(CorruptData):
        decode_frame(GOLDEN[:cut])


@given(FRAMES, st.binary(min_size=1, max_size=40))
def test_bytes_behind_a_frame_are_noticed(
    given_frame: tuple[int, int, list[tuple[int, list[bytes]]]], more: bytes
) -> None:
    with pytest.raises(CorruptData):
        decode_frame(encode_frame(*given_frame) + more)


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"DNBF\x01\x00" + tail))
def test_bytes_that_are_no_frame_are_corrupt_data(data: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_frame(data)
    assert isinstance(frame_id_of(data), str)


def test_more_than_a_position_can_name_does_not_fit_a_frame() -> None:
    with pytest.raises(ValueError, match="sections"):
        encode_frame(1, 1, [(topic, [b"x"]) for topic in range(SECTIONS_PER_FRAME_MAX)])
    with pytest.raises(ValueError, match="messages"):
        encode_frame(1, 1, [(1, [b""] * (MESSAGES_PER_SECTION_MAX + 1))])
    with pytest.raises(ValueError, match="messages"):
        encode_frame(1, 1, [(1, [])])
    whole = decode_frame(encode_frame(1, 1, [(1, [b""] * MESSAGES_PER_SECTION_MAX)]))
    assert len(whole.sections[0]) == MESSAGES_PER_SECTION_MAX


IDEMPOTENT_GOLDEN = bytes.fromhex(
    "444e4246010001000807060504030281090000000000000007000000000000000200000012000000166e124d4ca1cc83"
    "050000000a00000068656c6c6f776f726c64"
)
"""A batch of an idempotent producer: key 0x0102030405060708, sequences 9 and 10."""


def test_the_frame_of_an_idempotent_producer_is_written_and_read_as_it_always_was() -> None:
    (section, _) = split_frame(GOLDEN)
    assert encode_section(IDEMPOTENT | 0x0102030405060708, 9, section) == IDEMPOTENT_GOLDEN
    batch = ProducerBatch(0x0102030405060708, 9, 10)
    assert decode_frame(IDEMPOTENT_GOLDEN).producer_batch == producer_batch_of(IDEMPOTENT_GOLDEN) == batch
    assert sequence_key(7, "p") == 1729977147041016327
    assert producer_batch_of(GOLDEN) is decode_frame(GOLDEN).producer_batch is None


@given(FRAMES)
def test_what_an_idempotent_producer_stored_is_read_from_the_head_alone(
    given_frame: tuple[int, int, list[tuple[int, list[bytes]]]],
) -> None:
    data = encode_frame(*given_frame)
    found = producer_batch_of(data)
    assert found == decode_frame(data).producer_batch
    gateway, number, sections = given_frame
    assert (found is not None) == (gateway >= IDEMPOTENT and bool(sections))
    if found is not None:
        assert found == ProducerBatch(gateway - IDEMPOTENT, number, number + len(sections[0][1]) - 1)


@settings(max_examples=300)
@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"DNBF\x01\x00" + tail))
def test_the_head_of_bytes_that_are_no_frame_is_read_without_an_error(data: bytes) -> None:
    assert producer_batch_of(data) is None or len(data) >= 44
