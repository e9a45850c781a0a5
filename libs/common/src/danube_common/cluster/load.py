"""Load reports: what each topic-owner carries, written every few seconds under ``/cluster/load/``."""

from __future__ import annotations

import msgspec

REPORT_INTERVAL_S = 5.0
REPORT_TTL_S = 15.0
"""A report that is not followed by another one disappears."""


class BundleLoad(msgspec.Struct, frozen=True):
    """The load of one bundle over the last interval. ``in`` is from producers, ``out`` to gateways.

    Attributes:
        consumers: with an open stream.
        behind: subscriptions that read below the log's end.
        unacked: messages delivered and not acknowledged.
    """

    topics: int = 0
    subscriptions: int = 0
    consumers: int = 0
    in_messages_per_s: float = 0.0
    in_bytes_per_s: float = 0.0
    out_messages_per_s: float = 0.0
    out_bytes_per_s: float = 0.0
    behind: int = 0
    unacked: int = 0

    def __add__(self, other: BundleLoad) -> BundleLoad:
        names = self.__struct_fields__
        return BundleLoad(**{name: getattr(self, name) + getattr(other, name) for name in names})


class LoadReport(msgspec.Struct, frozen=True):
    """The load of one owner over the last interval.

    Attributes:
        at_ms: when it was measured, wall clock.
        interval_s: what the rates and the CPU time are averages over.
        cpu_percent: CPU time of the process; 100 is one core, and about all one owner can use.
        memory_bytes: resident memory of the process.
        memory_percent: the same, of what the machine or the container has.
        bundles: by bundle, e.g. ``f3``; those it serves and no others.
    """

    instance_id: str
    at_ms: int
    interval_s: float
    cpu_percent: float
    memory_bytes: int
    memory_percent: float
    bundles: dict[str, BundleLoad]

    @property
    def total(self) -> BundleLoad:
        """Add up all bundles."""
        return sum(self.bundles.values(), start=BundleLoad())
