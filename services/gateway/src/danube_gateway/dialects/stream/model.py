"""Converts messages of native streaming to the platform's types and back."""

from __future__ import annotations

from typing import Final

from danube_common.errors import InvalidInput
from danube_common.model.producer import AccessMode
from danube_common.model.schema import UNCHOSEN_SCHEMA, UNCHOSEN_STRING_NAME, Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType, start_at
from danube_proto import danube_stream_pb2 as api

SCHEMA_NAME: Final = "stream_schema"
"""The label of schemas that streaming clients give; it means nothing."""

_KINDS: Final = {
    api.Schema.BYTES: SchemaKind.BYTES,
    api.Schema.STRING: SchemaKind.STRING,
    api.Schema.INT64: SchemaKind.INT64,
    api.Schema.JSON: SchemaKind.JSON,
}
_TYPES: Final = {kind: number for number, kind in _KINDS.items()}
_STORAGES: Final = {api.Dispatch.Storage.Value(one.name): one for one in StorageBackend}
_TYPES_OF_SUBSCRIPTIONS: Final = {
    number: SubscriptionType[name] for name, number in api.Subscribe.Type.items()
}
_STARTS: Final = {number: StartKind[name] for name, number in api.Start.Kind.items()}
_MODES: Final = (AccessMode.SHARED, AccessMode.EXCLUSIVE)
"""By their numbers on the wire."""


def access_mode_of(number: int) -> AccessMode:
    """Return the access mode of a request. Raises InvalidInput."""
    if not 0 <= number < len(_MODES):
        raise InvalidInput(f"access_mode {number} is neither SHARED nor EXCLUSIVE")
    return _MODES[number]


def subscription_type_of(number: api.Subscribe.Type) -> SubscriptionType:
    """Return the type of a subscription. Raises InvalidInput."""
    kind = _TYPES_OF_SUBSCRIPTIONS.get(number)
    if kind is None:
        raise InvalidInput(f"type {number} is none of a subscription")
    return kind


def start_of(start: api.Start) -> StartPosition:
    """Return a start position. Raises InvalidInput; the owner checks it against the topic."""
    kind = _STARTS.get(start.kind)
    if kind is None:
        raise InvalidInput(f"start.kind {start.kind} is none of a start")
    return start_at(kind, start.value)


def schema_of(schema: api.Schema) -> Schema:
    """Return the schema that a client asks for, without its subject. Raises InvalidInput.

    A topic that takes any bytes also takes the clients of v0.2 that choose no schema.
    """
    kind = _KINDS.get(schema.type)
    if kind is None:
        raise InvalidInput(f"schema.type {schema.type} is none of a schema")
    if kind is SchemaKind.BYTES:
        return UNCHOSEN_SCHEMA
    try:
        definition = schema.definition.decode()
    except UnicodeDecodeError:
        raise InvalidInput("schema.definition is not UTF-8 text") from None
    if definition and kind is not SchemaKind.JSON:
        raise InvalidInput(f"a schema of type {kind} has no definition")
    return Schema(SCHEMA_NAME, kind, definition)


def schema_message(schema: Schema, subject: str = "") -> api.Schema:
    """Return the message of a topic's schema and of its subject in the registry."""
    if schema.name == UNCHOSEN_STRING_NAME:
        return api.Schema(type=api.Schema.BYTES, subject=subject)
    return api.Schema(type=_TYPES[schema.kind], definition=schema.definition.encode(), subject=subject)


def strategy_of(dispatch: api.Dispatch, default_storage: StorageBackend) -> Strategy:
    """Return the dispatch strategy that a client asks for. Raises InvalidInput."""
    if not dispatch.reliable:
        if dispatch.storage or dispatch.segment_size_mb or dispatch.retention_period_s:
            raise InvalidInput("dispatch: a topic that is not reliable has no storage and no retention")
        return Strategy()
    storage = _STORAGES.get(dispatch.storage, default_storage)
    if dispatch.storage not in (api.Dispatch.DEFAULT, *_STORAGES):
        raise InvalidInput(f"dispatch.storage {dispatch.storage} is none of a storage")
    options = ReliableOptions(storage=storage, retention=Retention.UNTIL_ACK)
    return Strategy(
        ReliableOptions(
            segment_size_mb=dispatch.segment_size_mb or options.segment_size_mb,
            storage=storage,
            retention=Retention.UNTIL_EXPIRE if dispatch.retention_period_s else Retention.UNTIL_ACK,
            retention_period_s=dispatch.retention_period_s or options.retention_period_s,
        )
    )


def default_strategy(default_storage: StorageBackend) -> Strategy:
    """Return how a topic is kept whose creator does not say: reliable, until it is acknowledged."""
    return strategy_of(api.Dispatch(reliable=True), default_storage)
