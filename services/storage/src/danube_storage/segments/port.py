"""What a service may ask of a place that keeps segments. Implementations: `memory`, `disk` and `s3`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Protocol

from danube_common.errors import InvalidInput

KEY_LENGTH_MAX = 512
KEY_PART_LENGTH_MAX = 128
READ_BYTES_MAX = 64 << 20
SEGMENT_BYTES_MAX = 1 << 40

_PART = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


class SegmentStore(Protocol):
    """Write-once objects under keys: relative paths of safe characters, see `check_key`.

    Every call raises InvalidInput for a key or range that breaks the rules, and StoreUnavailable
    when the place does not answer in its bounded time or answers with a fault.
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Write a segment once; it is durable when this returns, and until then absent or whole.

        The same content again succeeds and changes nothing, so a writer may repeat what it does
        not know the outcome of. An error raised by ``chunks`` is passed on; nothing is then stored.

        Raises:
            AlreadyExists: the key holds other content, which stays.
            StoreFull: there is no room; nothing was stored.
        """

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """``length`` bytes (at most READ_BYTES_MAX) from ``offset``; fewer only at the segment's end.

        Raises NotFound.
        """

    async def size(self, key: str) -> int:
        """Bytes. Raises NotFound."""

    async def list(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``, sorted. ``prefix`` is empty or ends with a slash."""

    async def delete(self, key: str) -> None:
        """Make the key absent, durably. Idempotent."""

    async def close(self) -> None:
        """Let go of threads and connections. Idempotent."""


def check_key(key: str) -> None:
    """Refuse a key that is not parts of ``[A-Za-z0-9._=-]`` joined by slashes, none starting with a dot.

    Raises InvalidInput.
    """
    parts = key.split("/")
    if len(key) > KEY_LENGTH_MAX or not all(
        len(part) <= KEY_PART_LENGTH_MAX and _PART.fullmatch(part) for part in parts
    ):
        raise InvalidInput(f"{key[:KEY_LENGTH_MAX]!r} is not a segment key")


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that is neither empty nor whole parts of a key, ending with a slash; InvalidInput."""
    if prefix:
        check_key(prefix.removesuffix("/"))
        if not prefix.endswith("/"):
            raise InvalidInput(f"the prefix {prefix!r} does not end with a slash")


def check_range(offset: int, length: int) -> None:
    """Refuse a range that no segment can have or that is too much for one read; InvalidInput."""
    if not (0 <= offset <= SEGMENT_BYTES_MAX and 0 <= length <= READ_BYTES_MAX):
        raise InvalidInput(f"{length} bytes from {offset} is not a range to read at once")
