"""The port of the bundles' logs. Implementations: `jetstream`, and one in memory for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from danube_common.model.bundle import Bundle


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One stored frame. ``sequence`` counts from 1 without gaps within a bundle.

    ``stored_ms`` is when the log stored it, in ms since the epoch: the publish time of its messages,
    by the platform's clock. ``traces`` are the marks that came with the frame
    (`danube_common.tracing.marks`), of places in it. Neither counts when entries are compared.
    """

    sequence: int
    frame: bytes
    stored_ms: int = field(default=0, compare=False)
    traces: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of an append. ``duplicate``: the frame id was stored before, at ``sequence``."""

    sequence: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Sequences ``first_sequence..last_sequence`` are stored; the log is empty if first = last + 1.

    ``stored_bytes`` is about what the entries take, ``first_stored_ms`` when the first of them was stored,
    0 if there is none. Neither counts when bounds are compared.
    """

    first_sequence: int
    last_sequence: int
    stored_bytes: int = field(default=0, compare=False)
    first_stored_ms: int = field(default=0, compare=False)


class LogFeed(Protocol):
    """A live feed that `BundleLog.follow` opened."""

    async def close(self) -> None:
        """Stop calling back. Idempotent."""


class BundleLog(Protocol):
    """An append-only log per bundle: durable (file family) or in memory (memory family)."""

    async def open(self, bundle: Bundle) -> None:
        """Create the bundle's log. Idempotent, also from several processes at once."""

    async def append(
        self, bundle: Bundle, frame: bytes, *, frame_id: str, timeout_s: float, traces: str = ""
    ) -> Appended:
        """Store ``frame`` and its marks; return when both are as durable as the family promises.

        Repeating a ``frame_id`` within the duplicate window (2 minutes) stores nothing new.

        Raises:
            LogFull: the log's size bound is reached; nothing was stored.
            LogUnavailable: no acknowledgement in time; the frame may or may not be stored.
        """

    async def bounds(self, bundle: Bundle) -> LogBounds:
        """Return what is stored now. Raises LogUnavailable; NotFound if the log was never opened."""

    async def read(
        self, bundle: Bundle, from_sequence: int, *, frames_max: int, bytes_max: int
    ) -> list[LogEntry]:
        """Return up to ``frames_max`` entries and about ``bytes_max`` bytes, but at least one entry.

        Starts at ``from_sequence`` or, below the log's floor, at the floor. Empty past the end.
        Raises LogUnavailable.
        """

    async def follow(self, bundle: Bundle, on_entry: Callable[[LogEntry], None]) -> LogFeed:
        """Call back for every entry that is appended from now on, in order, at most once.

        Entries may be missing after a transport loss: the reader compares sequences and fills
        gaps with `read`. The callback must not raise or block.
        """

    async def purge(self, bundle: Bundle, through_sequence: int) -> None:
        """Delete every entry up to and including ``through_sequence``. Idempotent."""
