"""Subscriptions: their type, and where a new one begins."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec


class SubscriptionType(IntEnum):
    """How a subscription shares messages among its consumers. The numbers are those of the wire."""

    EXCLUSIVE = 0
    SHARED = 1
    FAILOVER = 2


class StartKind(StrEnum):
    """The meaning of a `StartPosition`'s value."""

    EARLIEST = "earliest"
    """The oldest retained message; the value is 0."""
    LATEST = "latest"
    """The next message that is published; the value is 0."""
    POSITION = "position"
    """The first message at or after the position ``value``."""
    LAST = "last"
    """The newest ``value`` messages, and all that follow."""
    TIME = "time"
    """The first message stored at or after ``value``, in milliseconds since the epoch."""


class StartPosition(msgspec.Struct, frozen=True, array_like=True):
    """Where a subscription begins to read. If that message is not retained, it begins at the oldest one."""

    kind: StartKind = StartKind.EARLIEST
    value: int = 0
