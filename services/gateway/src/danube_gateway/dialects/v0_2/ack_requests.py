"""Reads the requests of ``ConsumerService.Ack``. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from danube_common.errors import InvalidInput
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.wire.protobuf_fields import varint_at
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.dialects.v0_2.model import generation_of
from danube_proto import danube_api_pb2 as api

KNOWN_MAX: Final = 4096
"""Ends of requests that are remembered, and beginnings of positions; beyond it all are forgotten."""
KNOWN_BYTES_MAX: Final = 1024
"""A longer end is not remembered."""
_USUAL: Final = re.compile(
    rb"\x08([\x80-\xff]{0,8}[\x00-\x7f])\x12([\x80-\xff]?[\x00-\x7f])(?:\x08[\x80-\xff]{0,9}[\x00-\x7f])?",
    re.DOTALL,
)
"""How requests begin: request_id, of nine bytes at most, which hold every position; the tag and the length of
msg_id; its sequence_id."""
_PRODUCER_ID: Final = 0x10
"""The tag of the second field of a v0.2 msg_id. In one of the current generation it is another."""
_LOW_BYTES: Final = 2
"""Of a position as a varint: they differ within a section."""


Ack = tuple[int, Delivered, bytes]
"""Delivery tag; what the message was delivered for, as the client says; serialized AckResponse."""


class _End(NamedTuple):
    """What follows the sequence_id of msg_id in a request.

    Attributes:
        msg_id_left: how many of its bytes belong to msg_id.
        delivered: what they say.
        is_v0_2: whether no client of another generation sends them.
    """

    msg_id_left: int
    delivered: Delivered
    is_v0_2: bool


class AckRequests:
    """Reads acknowledgements.

    Those of one stream and producer differ in the delivery tag and in the sequence id only: what follows is
    decoded once, and then found by its bytes.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, _End] = {}
        self._high: dict[bytes, int] = {}

    def read(self, data: bytes) -> Ack:
        """Decode a request. Raises CorruptData, InvalidInput."""
        usual = _USUAL.match(data)
        if usual is not None:
            tag, rest, left = usual[1], data[usual.end() :], _left(usual)
            end = self._known.get(rest)
            if end is not None and end.msg_id_left == left:
                return self._position(tag), end.delivered, data[: usual.end(1)]
        request = parse_strict(api.AckRequest, data)
        if not request.HasField("msg_id"):
            raise InvalidInput("the acknowledgement has no msg_id")
        generation = generation_of(request.msg_id)
        delivered = Delivered(request.msg_id.topic_name, request.subscription_name, generation)
        if usual is not None and len(rest) <= KNOWN_BYTES_MAX and request.SerializeToString() == data:
            # Each field stands there once, so that the rest says the same behind any other tag.
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[rest] = _End(left, delivered, left > 0 and rest[0] == _PRODUCER_ID)
        response = api.AckResponse(request_id=request.request_id).SerializeToString()
        return request.request_id, delivered, response

    def known(self, data: bytes) -> Ack | None:
        """Return what `read` returns if the request is certainly of v0.2 and its end was read before."""
        usual = _USUAL.match(data)
        if usual is None:
            return None
        end = self._known.get(data[usual.end() :])
        if end is None or not end.is_v0_2 or end.msg_id_left != _left(usual):
            return None
        return self._position(usual[1]), end.delivered, data[: usual.end(1)]

    def _position(self, tag: bytes) -> int:
        """Return the number that a varint is, most of which is that of others before it."""
        if len(tag) <= _LOW_BYTES:
            return varint_at(tag, 0, len(tag))[0]
        high = self._high.get(tag[_LOW_BYTES:])
        if high is None:
            if len(self._high) >= KNOWN_MAX:
                self._high.clear()
            high = varint_at(tag, _LOW_BYTES, len(tag))[0] << 7 * _LOW_BYTES
            self._high[tag[_LOW_BYTES:]] = high
        return high | (tag[1] & 0x7F) << 7 | tag[0] & 0x7F


def _left(usual: re.Match[bytes]) -> int:
    """Return how many bytes of msg_id follow its sequence_id."""
    length = usual[2]
    size = length[0] if len(length) == 1 else length[0] & 0x7F | length[1] << 7
    return usual.end(2) + size - usual.end()
