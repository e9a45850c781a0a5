"""Converts v0.2 messages to the platform's types and back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

from danube_common.errors import InvalidInput
from danube_common.model.producer import AccessMode
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.protobuf_fields import varint
from danube_proto import danube_api_pb2 as api

T = TypeVar("T")

_KINDS = (SchemaKind.BYTES, SchemaKind.STRING, SchemaKind.INT64, SchemaKind.JSON)
_BACKENDS = (StorageBackend.MEMORY, StorageBackend.DISK, StorageBackend.S3)
_RETENTIONS = (Retention.UNTIL_ACK, Retention.UNTIL_EXPIRE)

PREFETCH_HEADER = "danube-prefetch"
"""Metadata of ReceiveMessages, beyond v0.2: the unacknowledged messages that the consumer takes at once."""
PREFETCH_DIGITS_MAX = 9
REQUEST_ID_TAG = b"\x08"
SUBSCRIPTION_NAME_TAG = b"\x32"
MSG_ID_TAG = b"\x12"
TOPIC_NAME_TAG = b"\x1a"
BROKER_ADDR_TAG = b"\x22"
GENERATION_MARK = "#"
GENERATION_DIGITS_MAX = 15
DELIVERY_FIELDS_MAX = 4096
"""Subscriptions whose `delivery_fields` are remembered."""


def schema_of(message: api.Schema) -> Schema:
    """Return the schema of a message. Raises InvalidInput."""
    try:
        definition = message.schema_data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("schema_data is not UTF-8 text") from None
    return Schema(message.name, _pick(_KINDS, message.type_schema, "type_schema"), definition)


def schema_message(schema: Schema) -> api.Schema:
    """Return the v0.2 message of a schema."""
    kind = api.Schema.TypeSchema.Name(_KINDS.index(schema.kind))
    return api.Schema(name=schema.name, schema_data=schema.definition.encode(), type_schema=kind)


def strategy_of(message: api.TopicDispatchStrategy, default_storage: StorageBackend) -> Strategy:
    """Return the dispatch strategy of a message.

    Reliable without options is non-reliable. Raises InvalidInput.

    ``default_storage`` holds for clients that name none, or that write no zeros and mean memory.
    """
    if message.strategy not in (0, 1):
        raise InvalidInput(f"dispatch strategy {message.strategy} is neither NonReliable nor Reliable")
    if message.strategy == 0 or not message.HasField("reliable_options"):
        return Strategy()
    options = message.reliable_options
    storage = default_storage
    if options.HasField("storage_backend"):
        storage = _pick(_BACKENDS, options.storage_backend, "storage_backend")
    return Strategy(
        ReliableOptions(
            segment_size_mb=options.segment_size,
            storage=storage,
            storage_path=options.storage_path,
            retention=_pick(_RETENTIONS, options.retention_policy, "retention_policy"),
            retention_period_s=options.retention_period,
        )
    )


def access_mode_of(number: int) -> AccessMode:
    """Return the producer access mode of a request. Raises InvalidInput."""
    return _pick((AccessMode.SHARED, AccessMode.EXCLUSIVE), number, "producer_access_mode")


def subscription_type_of(number: int) -> SubscriptionType:
    """Return the subscription type of a request. Raises InvalidInput."""
    kinds = (SubscriptionType.EXCLUSIVE, SubscriptionType.SHARED, SubscriptionType.FAILOVER)
    return _pick(kinds, number, "subscription_type")


def prefetch_of(metadata: Mapping[str, str | bytes]) -> int:
    """Return the prefetch that a stream asks for; 0 if it asks for none. Raises InvalidInput."""
    text = metadata.get(PREFETCH_HEADER, "0")
    if (
        not isinstance(text, str)
        or not (text.isascii() and text.isdigit())
        or len(text) > PREFETCH_DIGITS_MAX
    ):
        raise InvalidInput(
            f"{PREFETCH_HEADER} is not a number of messages of at most {PREFETCH_DIGITS_MAX} digits"
        )
    return int(text)


@lru_cache(maxsize=DELIVERY_FIELDS_MAX)
def delivery_fields(topic: str, subscription: str, generation: int) -> bytes:
    """Return the fields that every message of a stream gets, as bytes to append.

    They are the subscription's name and, in ``msg_id``, which streaming clients do not send, the topic and,
    if its cursor was reset or the name used before, the subscription's generation: clients echo the whole
    ``msg_id`` in Ack, and its ``broker_addr`` is nothing to them.
    """
    msg_id = TOPIC_NAME_TAG + _text(topic)
    if generation:
        msg_id += BROKER_ADDR_TAG + _text(f"{GENERATION_MARK}{generation}")
    return SUBSCRIPTION_NAME_TAG + _text(subscription) + MSG_ID_TAG + _text(msg_id)


def generation_of(msg_id: api.MsgID) -> int:
    """Return the generation of the subscription for which an acknowledged message was delivered."""
    mark, _, digits = msg_id.broker_addr.partition(GENERATION_MARK)
    known = not mark and digits.isascii() and digits.isdigit() and len(digits) <= GENERATION_DIGITS_MAX
    return int(digits) if known else 0


def _text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(len(data)) + data


def _pick(values: tuple[T, ...], number: int, field: str) -> T:
    if not 0 <= number < len(values):
        raise InvalidInput(f"{field} {number} is not in 0..{len(values) - 1}")
    return values[number]
