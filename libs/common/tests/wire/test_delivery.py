from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import CorruptData
from danube_common.model.run import Run
from danube_common.wire.delivery import MAGIC, MESSAGES_MAX, Delivery, decode_delivery, encode_delivery
from danube_common.wire.owner import SessionEnded, encode_notice

U64 = st.integers(0, (1 << 64) - 1)
SECTIONS = st.builds(
    Run.of, st.integers(0, 1 << 62), st.lists(st.binary(max_size=40), min_size=1, max_size=6)
)


@st.composite
def slices(draw: st.DrawFn) -> Run:
    section = draw(SECTIONS)
    low = draw(st.integers(0, len(section) - 1))
    return section.tail(low).head(draw(st.integers(1, 6)))


DELIVERIES = st.builds(Delivery, U64, U64, U64, U64, st.lists(slices(), max_size=4).map(tuple))


def encoded(delivery: Delivery) -> bytes:
    return encode_delivery(
        delivery.epoch, delivery.consumer_id, delivery.session, delivery.number, delivery.runs
    )


def said(delivery: Delivery) -> tuple[object, ...]:
    runs = [list(run.entries()) for run in delivery.runs]
    return (delivery.epoch, delivery.consumer_id, delivery.session, delivery.number, runs)


@given(DELIVERIES)
def test_a_delivery_is_read_as_it_was_written(delivery: Delivery) -> None:
    assert said(decode_delivery(encoded(delivery))) == said(delivery)


@given(DELIVERIES, st.data())
def test_a_cut_or_lengthened_delivery_is_noticed(delivery: Delivery, data: st.DataObject) -> None:
    whole = encoded(delivery)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for wrong in (whole[:cut], whole + b"\0"):
        with pytest.raises(CorruptData):
            decode_delivery(wrong)


@settings(max_examples=300)
@given(DELIVERIES, st.data())
def test_a_damaged_delivery_never_decodes(delivery: Delivery, data: st.DataObject) -> None:
    whole = encoded(delivery)
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    if damaged != whole:
        with pytest.raises(CorruptData):
            decode_delivery(bytes(damaged))


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: bytes((MAGIC,)) + tail))
def test_bytes_that_are_no_delivery_are_corrupt_data(data: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_delivery(data)


def test_more_messages_than_any_owner_sends_are_refused() -> None:
    def delivery(messages: int) -> bytes:
        return encode_delivery(1, 1, 1, 1, [Run.of(1, [b""] * messages)])

    assert len(decode_delivery(delivery(MESSAGES_MAX)).entries()) == MESSAGES_MAX
    with pytest.raises(CorruptData):
        decode_delivery(delivery(MESSAGES_MAX + 1))


def test_a_notice_is_never_taken_for_a_delivery() -> None:
    notice = encode_notice(SessionEnded(1, 2, 3, "over"))
    assert notice[0] != MAGIC
    assert encoded(Delivery(1, 2, 3, 4, ()))[0] == MAGIC
