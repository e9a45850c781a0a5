from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from danube_common.errors import CorruptData, DanubeError, InvalidInput
from danube_common.rpc.protobuf_strict import parse_strict
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.dialects.generations import BROKER_URL_HEADER, Generation, of_message
from danube_gateway.dialects.v0_2 import ack_requests as ack_requests_module
from danube_gateway.dialects.v0_2.ack_requests import AckRequests
from danube_gateway.dialects.v0_2.model import generation_of
from danube_proto import danube_api_pb2 as api

U64 = st.integers(0, 300) | st.integers(0, (1 << 64) - 1)
TEXTS = st.sampled_from(["", "/default/t", "s", "#7", "x" * 130])
REQUESTS = st.builds(
    api.AckRequest,
    request_id=U64,
    msg_id=st.none()
    | st.builds(api.MsgID, sequence_id=U64, producer_id=U64, topic_name=TEXTS, broker_addr=TEXTS),
    subscription_name=TEXTS,
)
PARTS = st.sampled_from(
    [
        b"\x08\x05",
        b"\x08\x00",
        b"\x12\x00",
        b"\x12\x02\x08\x07",
        b"\x12\x03\x1a\x01t",
        b"\x1a\x01s",
        b"\x4a\x00",
        b"\x08\x85\x80\x00",
        b"\x12\x82\x00\x08\x07",
        b"\x10\x01",
        b"\x0a\x00",
        b"\x08" + b"\xff" * 10,
        b"\x12\x05",
    ]
)

CURRENT = {BROKER_URL_HEADER: "http://127.0.0.1:6650"}


def reference(data: bytes) -> tuple[int, Delivered, int] | type[DanubeError]:
    try:
        request = parse_strict(api.AckRequest, data)
    except CorruptData:
        return CorruptData
    if not request.HasField("msg_id"):
        return InvalidInput
    source = Delivered(request.msg_id.topic_name, request.subscription_name, generation_of(request.msg_id))
    return request.request_id, source, request.request_id


def as_read(requests: AckRequests, data: bytes) -> tuple[int, Delivered, int] | type[DanubeError]:
    try:
        position, delivered, response = requests.read(data)
    except (CorruptData, InvalidInput) as error:
        return type(error)
    return position, delivered, api.AckResponse.FromString(response).request_id


@given(st.lists(REQUESTS, max_size=8))
def test_requests_are_read_as_protobuf_reads_them(requests: list[api.AckRequest]) -> None:
    reader = AckRequests()
    for data in [each.SerializeToString() for each in requests] * 2:
        assert as_read(reader, data) == reference(data)


@given(st.lists(st.lists(PARTS, max_size=5).map(b"".join), max_size=8))
@example([b"\x08\x05\x12\x05\x1a\x01t\x1a\x00", b"\x08\x05\x12\x03\x1a\x01t\x1a\x00"])
def test_any_order_repetition_and_damage_is_read_as_protobuf_reads_it(several: list[bytes]) -> None:
    reader = AckRequests()
    for data in several * 2:
        assert as_read(reader, data) == reference(data)


@given(REQUESTS, st.data())
def test_what_was_read_before_does_not_hide_damage(request: api.AckRequest, data: st.DataObject) -> None:
    whole = request.SerializeToString()
    reader = AckRequests()
    as_read(reader, whole)
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    if damaged:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert as_read(reader, bytes(damaged)) == reference(bytes(damaged))


@given(st.lists(REQUESTS, max_size=8), st.lists(st.lists(PARTS, max_size=5).map(b"".join), max_size=8))
@example([api.AckRequest(request_id=5, msg_id=api.MsgID(topic_name="x"))], [])
def test_what_is_known_is_certainly_of_this_generation_and_says_what_is_read(
    requests: list[api.AckRequest], others: list[bytes]
) -> None:
    reader = AckRequests()
    several = [each.SerializeToString() for each in requests] + others
    for data in several * 2:
        if (known := reader.known(data)) is not None:
            assert of_message(data, {}) is of_message(data, CURRENT) is Generation.V0_2
            assert known == reader.read(data)
        else:
            as_read(reader, data)


def test_an_acknowledgement_like_one_before_is_known() -> None:
    reader = AckRequests()
    for position in (1 << 24, (1 << 24) + 1, 300 << 24, (1 << 63) - 1, 5, 200):
        msg_id = api.MsgID(sequence_id=position % 1000, producer_id=9, topic_name="/default/t")
        request = api.AckRequest(request_id=position, msg_id=msg_id, subscription_name="s")
        data = request.SerializeToString()
        assert (reader.known(data) is None) is (position == 1 << 24)
        assert reader.read(data)[:2] == (position, Delivered("/default/t", "s", 0))
        assert reader.known(data) == reader.read(data)


def test_what_follows_tag_and_sequence_id_is_decoded_once() -> None:
    reader = AckRequests()
    for number in range(1, 400, 3):
        request = api.AckRequest(
            request_id=number << 30,
            msg_id=api.MsgID(sequence_id=number, producer_id=9, topic_name="/default/t"),
            subscription_name="s",
        )
        reader.read(request.SerializeToString())
    assert len(reader._known) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ack_requests_module, "KNOWN_MAX", 10)
    reader = AckRequests()
    for size in (1, 5000):
        for number in range(50):
            name = f"{number}" * size
            reader.read(
                api.AckRequest(request_id=1, msg_id=api.MsgID(), subscription_name=name).SerializeToString()
            )
            assert len(reader._known) <= 10
    for number in range(50):
        data = api.AckRequest(request_id=number << 20 | 1 << 40, msg_id=api.MsgID()).SerializeToString()
        assert as_read(reader, data) == reference(data)
        assert as_read(reader, data) == reference(data)
        assert len(reader._high) <= 10
    assert all(len(rest) < 5000 for rest in reader._known)
