"""What an owner tells a gateway unasked: that a session ended."""

from __future__ import annotations

import msgspec

from danube_common.errors import UNDECODABLE, CorruptData
from danube_common.wire.owner.protocol import OWNER


class SessionEnded(msgspec.Struct, tag="session-ended", frozen=True):
    """Owner to gateway: end the stream, because the topic is gone or a newer stream took over.

    ``taken_over``: the client is told ``reason`` as an error; otherwise its stream ends without one.
    """

    epoch: int
    consumer_id: int
    session: int
    reason: str
    taken_over: bool = False


def taken_over(consumer_name: str) -> str:
    """Return what a client is told from which another one has taken over."""
    return f"another client took over as consumer {consumer_name!r}: each consumer needs a name of its own"


def encode_notice(notice: SessionEnded) -> bytes:
    """Encode a notice."""
    return OWNER.encode(notice)


_NOTICES: msgspec.msgpack.Decoder[SessionEnded] = msgspec.msgpack.Decoder(SessionEnded)


def decode_notice(data: bytes) -> SessionEnded:
    """Decode a notice; raises CorruptData. A delivery on the same subject starts with its magic byte."""
    try:
        return _NOTICES.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(f"not a notice: {error}") from None
