"""The port of segment stores. Adapters: `disk` and `s3`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from danube_common.errors import InvalidInput

KEY_LENGTH_MAX = 512
KEY_PART_LENGTH_MAX = 128
READ_BYTES_MAX = 64 << 20
SEGMENT_BYTES_MAX = 1 << 40

_PART = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


class SegmentReader(Protocol):
    """The part of a `SegmentStore` that reads."""

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only at the segment's end. Raises NotFound.

        ``length`` is at most READ_BYTES_MAX.
        """

    async def size(self, key: str) -> int:
        """Return the bytes of a segment. Raises NotFound."""


class SegmentStore(SegmentReader, Protocol):
    """Write-once objects under keys: relative paths of safe characters, see `check_key`.

    Every call raises InvalidInput for an invalid key or range, and StoreUnavailable if the store does not
    answer in its bounded time or fails.
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Write a segment once. It is durable when this returns, and readers see it whole or not at all.

        Writing the same content again succeeds and changes nothing, so a writer may repeat a put with an
        unknown outcome. An error raised by ``chunks`` is raised, and nothing is stored.

        Raises:
            AlreadyExists: the key has other content, which stays.
            StoreFull: there is no space; nothing was stored.
        """

    async def list(self, prefix: str) -> list[str]:
        """Return every key that starts with ``prefix``, sorted; ``prefix`` is empty or ends with a slash."""

    async def delete(self, key: str) -> None:
        """Delete a segment durably. Idempotent."""

    async def close(self) -> None:
        """Release threads and connections. Idempotent."""


@runtime_checkable
class LocalStore(SegmentStore, Protocol):
    """A store on the own disk: damaged segments can be replaced, and read past the system's cache."""

    async def evict(self, key: str) -> None:
        """Have the next reads of a segment come from the device, as far as possible. Raises NotFound."""

    async def replace(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Write a segment like `put`, in the place of what the key holds.

        What the key holds stays until all chunks are durable. If the process dies right then, the key may
        be missing.
        """


def check_key(key: str) -> None:
    """Raise InvalidInput unless the key is parts of ``[A-Za-z0-9._=-]`` joined by slashes.

    No part starts with a dot.
    """
    parts = key.split("/")
    if len(key) > KEY_LENGTH_MAX or not all(
        len(part) <= KEY_PART_LENGTH_MAX and _PART.fullmatch(part) for part in parts
    ):
        raise InvalidInput(f"{key[:KEY_LENGTH_MAX]!r} is not a segment key")


def check_prefix(prefix: str) -> None:
    """Raise InvalidInput unless the prefix is empty, or whole parts of a key and a slash."""
    if prefix:
        check_key(prefix.removesuffix("/"))
        if not prefix.endswith("/"):
            raise InvalidInput(f"the prefix {prefix!r} does not end with a slash")


def check_range(offset: int, length: int) -> None:
    """Raise InvalidInput if no segment can have the range, or if it is too large for one read."""
    if not (0 <= offset <= SEGMENT_BYTES_MAX and 0 <= length <= READ_BYTES_MAX):
        raise InvalidInput(f"{length} bytes from {offset} is not a range to read at once")
