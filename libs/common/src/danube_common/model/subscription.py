"""Subscriptions: their type, and where a new one begins."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from danube_common.errors import InvalidInput


class SubscriptionType(IntEnum):
    """How a subscription shares messages among its consumers. The numbers are those of the wire."""

    EXCLUSIVE = 0
    SHARED = 1
    FAILOVER = 2
    KEY_SHARED = 3
    """Each key goes to one consumer, in order."""

    @property
    def label(self) -> str:
        """The type in words: ``key-shared``."""
        return self.name.lower().replace("_", "-")


KEY_FILTERS_MAX: Final = 100
"""Filters of one consumer."""
KEY_FILTER_CHARACTERS_MAX: Final = 256


def check_key_filters(kind: SubscriptionType, filters: Sequence[str]) -> tuple[str, ...]:
    """Return the filters of a consumer: globs of keys, ``*`` for any text and ``?`` for one character.

    Raises InvalidInput.
    """
    if filters and kind is not SubscriptionType.KEY_SHARED:
        raise InvalidInput("key_filters are for key-shared subscriptions")
    if len(filters) > KEY_FILTERS_MAX:
        raise InvalidInput(f"{len(filters)} key_filters are more than {KEY_FILTERS_MAX}")
    for each in filters:
        if not 0 < len(each) <= KEY_FILTER_CHARACTERS_MAX:
            raise InvalidInput(
                f"key filter {each[:40]!r} has {len(each)} characters, not 1 to {KEY_FILTER_CHARACTERS_MAX}"
            )
    return tuple(dict.fromkeys(filters))


def key_matches(glob: str, key: str) -> bool:
    """Return whether a key matches a filter. Its time is bounded by the product of the lengths."""
    at = in_glob = 0
    star, resume = -1, 0
    while at < len(key):
        if in_glob < len(glob) and glob[in_glob] == "*":
            star, resume = in_glob, at
            in_glob += 1
        elif in_glob < len(glob) and glob[in_glob] in ("?", key[at]):
            in_glob += 1
            at += 1
        elif star >= 0:
            resume += 1
            in_glob, at = star + 1, resume
        else:
            return False
    return not glob[in_glob:].strip("*")


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


def start_at(kind: StartKind, value: int) -> StartPosition:
    """Return a start as a client asks for it; the owner checks it against the topic. Raises InvalidInput."""
    if value >= 1 << 63:
        raise InvalidInput(f"start.value {value} is above {(1 << 63) - 1}")
    if value and kind in (StartKind.EARLIEST, StartKind.LATEST):
        raise InvalidInput(f"a start at {kind} takes no value")
    return StartPosition(kind, value)
