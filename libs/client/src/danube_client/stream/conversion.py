"""The client's descriptions of topics in the words of `danube.stream.v1`, and back."""

from __future__ import annotations

from danube_client.schema import Schema
from danube_client.start import Start
from danube_client.strategy import DEFAULT_RETENTION_PERIOD_S, NonReliable, Reliable, Retention, Strategy
from danube_proto import danube_stream_pb2 as api


def require(value: object, kinds: type | tuple[type, ...], said: str) -> None:
    """Raise TypeError with ``said`` if a value is none of these: a text would be taken for something else."""
    if not isinstance(value, kinds):
        raise TypeError(f"{said}, not {value!r}")


def dispatch(strategy: Strategy | None) -> api.Dispatch | None:
    """Return how a new topic keeps its messages. Raises TypeError."""
    if strategy is None:
        return None
    require(strategy, (Reliable, NonReliable), "a strategy is Reliable() or NonReliable()")
    if not isinstance(strategy, Reliable):
        return api.Dispatch(reliable=False)
    period_s, retention = strategy.retention_period_s, strategy.retention
    if retention is Retention.UNTIL_EXPIRED and period_s is None:
        period_s = DEFAULT_RETENTION_PERIOD_S
    if retention is Retention.UNTIL_ACKNOWLEDGED:
        period_s = None
    # DEFAULT is 0, so that the others are one more than in v0.2.
    storage = 0 if strategy.storage is None else int(strategy.storage) + 1
    return api.Dispatch(
        reliable=True,
        storage=api.Dispatch.Storage.Name(storage),
        segment_size_mb=strategy.segment_size_mib,
        # 0 on the wire is "until acknowledged": what expires at once is kept for a second.
        retention_period_s=0 if period_s is None else max(1, period_s),
    )


def schema_to_wire(schema: Schema | None) -> api.Schema | None:
    """Return the schema of a new topic. Raises TypeError."""
    if schema is None:
        return None
    require(schema, Schema, "a schema is a Schema, such as Schema.string()")
    if schema.subject:
        return api.Schema(subject=schema.subject)
    return api.Schema(type=api.Schema.Type.Name(int(schema.type)), definition=schema.definition.encode())


def start(position: Start | None) -> api.Start | None:
    """Return where a subscription or a reading begins. Raises TypeError."""
    if position is None:
        return None
    require(position, Start, "a start is a Start, such as Start.latest()")
    return api.Start(kind=api.Start.Kind.Name(int(position.kind)), value=position.value)
