"""Reads the requests of ``ConsumerService.Ack``. Pure."""

from __future__ import annotations

from typing import Final

from danube_common.errors import InvalidInput
from danube_common.rpc.protobuf_strict import parse_strict
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.dialects.v0_2.model import generation_of
from danube_proto import danube_api_pb2 as api

KNOWN_MAX: Final = 4096
"""Ends of requests that are remembered; beyond it all are forgotten."""
KNOWN_BYTES_MAX: Final = 1024
"""A longer end is not remembered."""
_VARINT_BYTES_MAX: Final = 10
_REQUEST_ID: Final = 0x08
_MSG_ID: Final = 0x12
_SEQUENCE_ID: Final = 0x08


Ack = tuple[int, Delivered, bytes]
"""Delivery tag; what the message was delivered for, as the client says; serialized AckResponse."""
Split = tuple[int, int, bytes, int]
"""Delivery tag; where it ends; what follows the sequence_id of msg_id; how much of that belongs to msg_id."""


class AckRequests:
    """Reads acknowledgements.

    Those of one stream and producer differ in the delivery tag and in the sequence id only: what follows is
    decoded once, and then found by its bytes.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, Delivered]] = {}

    def read(self, data: bytes) -> Ack:
        """Decode a request. Raises CorruptData, InvalidInput."""
        split = _split(data)
        if split is not None:
            position, id_end, rest, msg_id_left = split
            known = self._known.get(rest)
            if known is not None and known[0] == msg_id_left:
                return position, known[1], data[:id_end]
        request = parse_strict(api.AckRequest, data)
        if not request.HasField("msg_id"):
            raise InvalidInput("the acknowledgement has no msg_id")
        generation = generation_of(request.msg_id)
        delivered = Delivered(request.msg_id.topic_name, request.subscription_name, generation)
        if split is not None and len(rest) <= KNOWN_BYTES_MAX and request.SerializeToString() == data:
            # Each field stands there once, so that the rest says the same behind any other tag.
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[rest] = (msg_id_left, delivered)
        response = api.AckResponse(request_id=request.request_id).SerializeToString()
        return request.request_id, delivered, response


def _split(data: bytes) -> Split | None:
    """Take a request apart without decoding the rest; None if it is longer, shorter or otherwise ordered."""
    try:
        if data[0] != _REQUEST_ID:
            return None
        at, shift, position = 1, 0, 0
        while (byte := data[at]) & 0x80:
            position |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if at >= _VARINT_BYTES_MAX:  # nine bytes hold every position
                return None
        position |= byte << shift
        id_end = at + 1
        if data[id_end] != _MSG_ID:
            return None
        begin, length = id_end + 2, data[id_end + 1]
        if length & 0x80:
            begin, length = begin + 1, length & 0x7F | data[begin] << 7
            if data[begin - 1] & 0x80:
                return None
        at = begin
        if data[at] == _SEQUENCE_ID:
            at += 1
            while data[at] & 0x80:
                at += 1
            at += 1
            if at - begin - 1 > _VARINT_BYTES_MAX:
                return None
    except IndexError:
        return None
    return position, id_end, data[at:], begin + length - at
