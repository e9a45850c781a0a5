"""Dispatch strategies, and the options of reliable topics."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from danube_common.errors import InvalidInput
from danube_common.model.bundle import Family

SEGMENT_SIZE_MB_MAX = 64
"""What a storage instance seals at once, as far as its ``cut_bytes_max`` is not changed."""
RETENTION_PERIOD_S_MAX = 100 * 366 * 24 * 3600
STORAGE_PATH_LENGTH_MAX = 1024


class StorageBackend(StrEnum):
    """Where the messages of a reliable topic are stored."""

    MEMORY = "memory"
    DISK = "disk"
    S3 = "s3"


DEFAULT_STORAGE = StorageBackend.DISK
"""Where segments live if neither the creator of a topic nor an operator says anything."""


class Retention(StrEnum):
    """When the messages of a reliable topic are deleted."""

    UNTIL_ACK = "ack"
    UNTIL_EXPIRE = "expire"


class ReliableOptions(msgspec.Struct, frozen=True):
    """Options of a reliable topic. The defaults are those of the original's command line."""

    segment_size_mb: int = 20
    storage: StorageBackend = StorageBackend.MEMORY
    storage_path: str = ""
    retention: Retention = Retention.UNTIL_EXPIRE
    retention_period_s: int = 3600


class Strategy(msgspec.Struct, frozen=True):
    """How a topic is dispatched. ``reliable`` is None for non-reliable topics."""

    reliable: ReliableOptions | None = None

    @property
    def is_reliable(self) -> bool:
        """Whether messages are stored."""
        return self.reliable is not None

    @property
    def family(self) -> Family:
        """The family of bundles that the topic belongs to; a non-reliable topic writes no log."""
        in_memory = self.reliable is not None and self.reliable.storage is StorageBackend.MEMORY
        return Family.MEMORY if in_memory else Family.FILE

    def differs_from(self, asked: Strategy) -> str | None:
        """Return why a producer that asks for ``asked`` does not fit this topic, or None.

        Storage backend and path do not count: clients from 0.2.2 on cannot send them.
        """
        if self.reliable is None or asked.reliable is None:
            if (self.reliable is None) == (asked.reliable is None):
                return None
            return f"its dispatch strategy is {self.word}, not {asked.word}"
        for field in ("segment_size_mb", "retention", "retention_period_s"):
            mine, theirs = getattr(self.reliable, field), getattr(asked.reliable, field)
            if mine != theirs:
                return f"its {field} is {mine}, not {theirs}"
        return None

    @property
    def word(self) -> str:
        """The strategy's name."""
        return "reliable" if self.is_reliable else "non-reliable"


def check_options(options: ReliableOptions) -> None:
    """Check the ranges of options; raises InvalidInput."""
    if options.segment_size_mb > SEGMENT_SIZE_MB_MAX:
        raise InvalidInput(
            f"segment_size is in MB and at most {SEGMENT_SIZE_MB_MAX}, not {options.segment_size_mb}"
        )
    if options.retention_period_s > RETENTION_PERIOD_S_MAX:
        raise InvalidInput(
            f"retention_period {options.retention_period_s} s is over {RETENTION_PERIOD_S_MAX}"
        )
    if len(options.storage_path) > STORAGE_PATH_LENGTH_MAX:
        raise InvalidInput(f"storage_path is longer than {STORAGE_PATH_LENGTH_MAX} characters")
