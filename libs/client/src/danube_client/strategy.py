"""Dispatch strategies: whether a topic stores its messages, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from danube_proto import danube_api_pb2 as wire

DEFAULT_RETENTION_PERIOD_S = 3600


class Storage(IntEnum):
    """Where the sealed segments of a reliable topic are stored. The numbers are those of the wire."""

    MEMORY = 0
    DISK = 1
    S3 = 2


class Retention(IntEnum):
    """When messages of a reliable topic are deleted. The numbers are those of the wire."""

    UNTIL_ACKNOWLEDGED = 0
    UNTIL_EXPIRED = 1


@dataclass(frozen=True, slots=True)
class NonReliable:
    """Messages go to the consumers that are connected at that moment and are not stored."""

    def to_wire(self) -> wire.TopicDispatchStrategy:
        """Return the protobuf message of the strategy."""
        return wire.TopicDispatchStrategy(strategy=wire.NonReliable)


@dataclass(frozen=True, slots=True)
class Reliable:
    """Messages are stored before the producer is answered, and delivered until they are acknowledged.

    Attributes:
        storage: where sealed segments are stored; None lets the platform choose.
        segment_size_mib: the size at which a segment is sealed, at most 64.
        retention: when messages are deleted. None is ``UNTIL_ACKNOWLEDGED``, or ``UNTIL_EXPIRED`` if a
            retention period is given.
        retention_period_s: the age in seconds at which ``UNTIL_EXPIRED`` deletes messages; None is
            DEFAULT_RETENTION_PERIOD_S.
        storage_path: a label that is stored with the topic.
    """

    storage: Storage | None = None
    segment_size_mib: int = 20
    retention: Retention | None = None
    retention_period_s: int | None = None
    storage_path: str = ""

    def to_wire(self) -> wire.TopicDispatchStrategy:
        """Return the protobuf message of the strategy."""
        period_s, retention = self.retention_period_s, self.retention
        if retention is None:
            retention = Retention.UNTIL_ACKNOWLEDGED if period_s is None else Retention.UNTIL_EXPIRED
        return wire.TopicDispatchStrategy(
            strategy=wire.Reliable,
            reliable_options=wire.ReliableOptions(
                segment_size=self.segment_size_mib,
                storage_backend=None if self.storage is None else wire.StorageBackend.Name(int(self.storage)),
                storage_path=self.storage_path,
                retention_policy=wire.RetentionPolicy.Name(int(retention)),
                retention_period=DEFAULT_RETENTION_PERIOD_S if period_s is None else period_s,
            ),
        )


Strategy = NonReliable | Reliable
