"""How a topic's messages are kept and handed out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from danube_proto import danube_api_pb2 as wire


class Storage(IntEnum):
    """Where a reliable topic's sealed segments live; numbered as on the wire."""

    MEMORY = 0
    DISK = 1
    S3 = 2


class Retention(IntEnum):
    """When a reliable topic's messages may go; numbered as on the wire."""

    UNTIL_ACKNOWLEDGED = 0
    UNTIL_EXPIRED = 1


@dataclass(frozen=True, slots=True)
class NonReliable:
    """Delivered to whoever is subscribed at that moment, kept nowhere."""

    def to_wire(self) -> wire.TopicDispatchStrategy:
        return wire.TopicDispatchStrategy(strategy=wire.NonReliable)


@dataclass(frozen=True, slots=True)
class Reliable:
    """Stored before the producer gets its answer, delivered until acknowledged.

    ``storage`` None leaves it to the platform where segments live.
    """

    storage: Storage | None = None
    segment_size_mib: int = 20
    retention: Retention = Retention.UNTIL_EXPIRED
    retention_period_s: int = 3600
    storage_path: str = ""

    def to_wire(self) -> wire.TopicDispatchStrategy:
        return wire.TopicDispatchStrategy(
            strategy=wire.Reliable,
            reliable_options=wire.ReliableOptions(
                segment_size=self.segment_size_mib,
                storage_backend=None if self.storage is None else wire.StorageBackend.Name(int(self.storage)),
                storage_path=self.storage_path,
                retention_policy=wire.RetentionPolicy.Name(int(self.retention)),
                retention_period=self.retention_period_s,
            ),
        )


Strategy = NonReliable | Reliable
