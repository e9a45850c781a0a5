from __future__ import annotations

import struct

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import CorruptData
from danube_common.model.run import Run
from danube_common.wire.delivery import (
    MAGIC,
    MESSAGES_MAX,
    PACK_BYTES_MAX,
    Delivery,
    Pack,
    decode_deliveries,
    encode_delivery,
)
from danube_common.wire.owner.notices import SessionEnded, encode_notice

U64 = st.integers(0, (1 << 64) - 1)
SECTIONS = st.lists(
    st.builds(
        Run.of,
        st.integers(0, 1 << 62),
        st.lists(st.binary(max_size=40), min_size=1, max_size=6),
        st.integers(0, 1 << 62),
    ),
    min_size=1,
    max_size=3,
)
EPOCH = 7


@st.composite
def deliveries(draw: st.DrawFn) -> list[Delivery]:
    """Deliveries of slices of the same few sections, whole ones more often than not."""
    sections = draw(SECTIONS)

    def some_slice() -> Run:
        section = draw(st.sampled_from(sections))
        low = draw(st.just(0) | st.integers(0, len(section) - 1))
        return section.tail(low).head(draw(st.just(6) | st.integers(1, 6)))

    return [
        Delivery(
            EPOCH,
            draw(U64),
            draw(U64),
            draw(U64),
            tuple(some_slice() for _ in range(count)),
            draw(st.just([]) | st.lists(st.tuples(U64, st.integers(1, (1 << 32) - 1)), max_size=2)),
        )
        for count in draw(st.lists(st.integers(1, 3), max_size=4))
    ]


def packed(deliveries: list[Delivery]) -> bytes:
    pack = Pack(EPOCH)
    for each in deliveries:
        assert pack.add(each.consumer_id, each.session, each.number, list(each.runs), each.failures)
    return pack.encode()


def said(deliveries: list[Delivery]) -> list[tuple[object, ...]]:
    return [
        (
            *(each.epoch, each.consumer_id, each.session, each.number),
            *([(run.offset, list(run.entries())) for run in each.runs], list(each.failures)),
        )
        for each in deliveries
    ]


@given(deliveries())
def test_deliveries_are_read_as_they_were_written(deliveries: list[Delivery]) -> None:
    assert said(decode_deliveries(packed(deliveries))) == said(deliveries)
    for each in deliveries:
        assert said(decode_deliveries(encode_delivery(each))) == said([each])


@given(deliveries(), st.data())
def test_a_cut_or_lengthened_delivery_is_noticed(deliveries: list[Delivery], data: st.DataObject) -> None:
    whole = packed(deliveries)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for wrong in (whole[:cut], whole + b"\0"):
        with pytest.raises(CorruptData):
            decode_deliveries(wrong)


@settings(max_examples=300)
@given(deliveries(), st.data())
def test_a_damaged_delivery_never_decodes(deliveries: list[Delivery], data: st.DataObject) -> None:
    whole = packed(deliveries)
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    if damaged != whole:
        with pytest.raises(CorruptData):
            decode_deliveries(bytes(damaged))


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: bytes((MAGIC,)) + tail))
def test_bytes_that_are_no_delivery_are_corrupt_data(data: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_deliveries(data)


def test_what_several_consumers_get_is_in_a_pack_once() -> None:
    section = Run.of(1, [bytes(1000)] * 10)
    one = len(packed([Delivery(EPOCH, 1, 1, 1, (section,))]))
    ten = len(packed([Delivery(EPOCH, consumer, 1, 1, (section,)) for consumer in range(10)]))
    assert ten < one + 1000


def test_a_pack_is_bounded_but_takes_one_delivery_of_any_size() -> None:
    def run(size: int) -> list[Run]:
        return [Run.of(1, [bytes(size)])]

    pack = Pack(EPOCH)
    assert pack.add(1, 1, 1, run(2 * PACK_BYTES_MAX))
    assert not pack.add(2, 1, 1, run(1))
    pack = Pack(EPOCH)
    assert pack.add(1, 1, 1, run(PACK_BYTES_MAX))
    assert not pack.add(2, 1, 1, run(1))
    pack = Pack(EPOCH)
    assert [pack.add(n, 1, 1, run(0)) for n in range(MESSAGES_MAX + 1)] == [True] * MESSAGES_MAX + [False]


def test_more_messages_than_any_owner_sends_are_refused() -> None:
    def delivery(messages: int) -> bytes:
        return encode_delivery(Delivery(1, 1, 1, 1, (Run.of(1, [b""] * messages),)))

    assert len(decode_deliveries(delivery(MESSAGES_MAX))[0].entries()) == MESSAGES_MAX
    with pytest.raises(CorruptData):
        decode_deliveries(delivery(MESSAGES_MAX + 1))


def test_a_small_delivery_of_a_large_pack_keeps_only_its_own_messages() -> None:
    pack = packed([Delivery(EPOCH, n, 1, 1, (Run.of(1, [bytes(size)]),)) for n, size in enumerate((9, 9999))])
    small, large = decode_deliveries(pack)
    assert (len(small.runs[0].data), large.runs[0].size) == (9, 9999)


def test_a_pack_whose_tables_do_not_fit_is_refused_although_its_checksum_is_right() -> None:
    """Found by fuzzing: only a faulty or hostile owner makes one."""
    head = struct.pack("<QIII", 1, 0, 9, 0) + bytes(8)
    with pytest.raises(CorruptData, match="do not fit"):
        decode_deliveries(struct.pack("<BI", 0xD2, google_crc32c.value(head)) + head)


def test_a_notice_is_never_taken_for_a_delivery() -> None:
    assert encode_notice(SessionEnded(1, 2, 3, "over"))[0] != MAGIC
    assert packed([])[0] == MAGIC


def test_a_pack_of_an_earlier_owner_is_read() -> None:
    """It has positions 5 and 6 of consumer 1, and neither failures nor offsets."""
    tables = struct.pack("<QIIIQQQIQIIII", EPOCH, 1, 1, 2, 1, 2, 3, 1, 5, 0, 2, 1, 3)
    pack = struct.pack("<BI", 0xD2, google_crc32c.value(tables + b"abc")) + tables + b"abc"
    (delivery,) = decode_deliveries(pack)
    assert (delivery.consumer_id, delivery.session, delivery.number, delivery.failures) == (1, 2, 3, ())
    assert delivery.entries() == [(5, b"a"), (6, b"bc")]
    assert delivery.runs[0].offset_at(6) == 6
