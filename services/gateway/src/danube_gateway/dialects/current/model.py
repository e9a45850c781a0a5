"""Converts messages of the current generation to what is stored, and back. Pure.

Stored messages have v0.2's layout of ``msg_id``, whoever sent them, so that v0.2 producers and consumers
cost no conversion. All other fields have the same numbers in both generations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from danube_common.errors import InvalidInput
from danube_common.model.position import BEFORE_ALL
from danube_common.model.run import Run
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.model.subscription import SubscriptionType
from danube_common.rpc.grpc_framing import PREFIX
from danube_common.wire.protobuf_fields import varint
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.dialects.v0_2.model import MSG_ID_TAG, SUBSCRIPTION_NAME_TAG
from danube_gateway.publish.subject_checks import SchemaStamp
from danube_proto import danube_api_pb2 as v0_2
from danube_proto import danube_current_pb2 as api

PRODUCER_ID_TAG: Final = b"\x08"
TOPIC_NAME_TAG: Final = b"\x12"
BROKER_ADDR_TAG: Final = b"\x1a"
TOPIC_OFFSET_TAG: Final = b"\x28"

_TAG: Final = re.compile(r"#([0-9]{1,15})\.([0-9]{1,19})")


class Tag(NamedTuple):
    """What a client gives back with an acknowledgement: a message, and for which subscription it came."""

    delivered: Delivered
    position: int


def strategy_of(number: int, default_storage: StorageBackend) -> Strategy:
    """Return the dispatch strategy of a request. Raises InvalidInput.

    The contract names no options: a new reliable topic keeps messages until they are acknowledged.
    """
    if number == api.NonReliable:
        return Strategy()
    if number != api.Reliable:
        raise InvalidInput(f"dispatch_strategy {number} is neither NonReliable nor Reliable")
    return Strategy(ReliableOptions(storage=default_storage, retention=Retention.UNTIL_ACK))


def subscription_type_of(number: int) -> SubscriptionType:
    """Return the subscription type of a request. Raises InvalidInput."""
    try:
        return SubscriptionType(number)
    except ValueError:
        raise InvalidInput(f"subscription_type {number} is not in 0..{max(SubscriptionType)}") from None


def stored_message(message: api.StreamMessage) -> bytes:
    """Return the bytes that are stored of a message. Its ``msg_id`` is cleared."""
    msg_id = v0_2.MsgID(
        sequence_id=message.request_id,
        producer_id=message.msg_id.producer_id,
        topic_name=message.msg_id.topic_name,
        broker_addr=message.msg_id.broker_addr,
    ).SerializeToString()
    message.ClearField("msg_id")
    return b"".join((MSG_ID_TAG, varint(len(msg_id)), msg_id, message.SerializeToString()))


def stamp_of(message: api.StreamMessage) -> SchemaStamp | None:
    """Return what a message says of its schema."""
    if not message.HasField("schema_id"):
        return None
    return SchemaStamp(
        message.schema_id, message.schema_version if message.HasField("schema_version") else None
    )


def stream_messages(runs: Iterable[Run], delivered: Delivered) -> bytes:
    """Return the messages of runs for one consumer, back to back with their gRPC prefixes.

    ``broker_addr`` is the delivery tag, `tag_of` reads it. ``topic_offset`` counts the messages of the
    topic before it; it is 0 for a non-reliable topic. Fields that the contract does not have are left out:
    clients refuse a message with a field of another type.
    """
    topic = TOPIC_NAME_TAG + _text(delivered.topic.encode())
    subscription = SUBSCRIPTION_NAME_TAG + _text(delivered.subscription.encode())
    parts: list[bytes] = []
    for run in runs:
        for position, data in run.entries():
            offset = run.offset_at(position)
            message = v0_2.StreamMessage.FromString(data)
            message.DiscardUnknownFields()
            producer = message.msg_id.producer_id
            message.ClearField("msg_id")
            message.ClearField("subscription_name")
            addr = f"#{delivered.generation}.{position}".encode()
            msg_id = b"".join(
                (
                    *(PRODUCER_ID_TAG, varint(producer), topic),
                    *(BROKER_ADDR_TAG, varint(len(addr)), addr, TOPIC_OFFSET_TAG, varint(offset)),
                )
            )
            body = message.SerializeToString()
            head = MSG_ID_TAG + varint(len(msg_id)) + msg_id
            size = len(head) + len(body) + len(subscription)
            parts += (PREFIX.pack(0, size), head, body, subscription)
    return b"".join(parts)


def tag_of(msg_id: api.MsgID, subscription: str) -> Tag:
    """Return what an acknowledgement is for. Raises InvalidInput if its client was sent no such message."""
    found = _TAG.fullmatch(msg_id.broker_addr)
    if found is None:
        raise InvalidInput(
            "msg_id.broker_addr is not that of a message that was received here: a client gives it back "
            "unchanged (clients 0.2.3 to 0.5 do not; 0.2.0 to 0.2.2, and 0.6 and later, do)"
        )
    delivered = Delivered(msg_id.topic_name, subscription, int(found[1]))
    return Tag(delivered, min(int(found[2]), (1 << 63) - 1))


def is_stored(position: int) -> bool:
    """Return whether a delivered message is of a reliable topic, so that it is acknowledged."""
    return position != BEFORE_ALL


def _text(data: bytes) -> bytes:
    return varint(len(data)) + data
