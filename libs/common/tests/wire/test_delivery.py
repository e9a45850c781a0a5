from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import CorruptData
from danube_common.wire.delivery import ENTRIES_MAX, MAGIC, Delivery, decode_delivery, encode_delivery
from danube_common.wire.owner import SessionEnded, encode_notice

U64 = st.integers(0, (1 << 64) - 1)
DELIVERIES = st.builds(
    Delivery, U64, U64, U64, U64, st.lists(st.tuples(U64, st.binary(max_size=40)), max_size=6).map(tuple)
)


def encoded(delivery: Delivery) -> bytes:
    return encode_delivery(
        delivery.epoch, delivery.consumer_id, delivery.session, delivery.number, delivery.entries
    )


@given(DELIVERIES)
def test_a_delivery_is_read_as_it_was_written(delivery: Delivery) -> None:
    assert decode_delivery(encoded(delivery)) == delivery


@given(DELIVERIES, st.data())
def test_a_cut_or_lengthened_delivery_is_noticed(delivery: Delivery, data: st.DataObject) -> None:
    whole = encoded(delivery)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for wrong in (whole[:cut], whole + b"\0"):
        with pytest.raises(CorruptData):
            decode_delivery(wrong)


@settings(max_examples=300)
@given(DELIVERIES, st.data())
def test_damage_is_corrupt_data_and_nothing_worse(delivery: Delivery, data: st.DataObject) -> None:
    whole = bytearray(encoded(delivery))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_delivery(bytes(whole))
    except CorruptData:
        return


def test_more_entries_than_any_owner_sends_are_refused() -> None:
    with pytest.raises(CorruptData):
        decode_delivery(encode_delivery(1, 1, 1, 1, [(1, b"")] * (ENTRIES_MAX + 1)))


def test_a_notice_is_never_taken_for_a_delivery() -> None:
    notice = encode_notice(SessionEnded(1, 2, 3, "over"))
    assert notice[0] != MAGIC
    assert encoded(Delivery(1, 2, 3, 4, ()))[0] == MAGIC
