"""A segment store in the memory of one process, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

from danube_common.errors import AlreadyExists, NotFound, StoreFull
from danube_storage.segments.port import check_key, check_prefix, check_range

DEFAULT_BYTES_MAX = 1 << 30


class MemoryStore:
    """SegmentStore that holds at most ``bytes_max``, unfinished writes included."""

    def __init__(self, *, bytes_max: int = DEFAULT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes_taken = 0
        self._segments: dict[str, bytes] = {}

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        check_key(key)
        chunks_held: list[bytes] = []
        taken_bytes = 0
        try:
            async for chunk in chunks:
                if self._bytes_taken + len(chunk) > self._bytes_max:
                    raise StoreFull(f"{self._bytes_taken} of {self._bytes_max} bytes are taken")
                self._bytes_taken += len(chunk)
                taken_bytes += len(chunk)
                chunks_held.append(bytes(chunk))
            content = b"".join(chunks_held)
            there = self._segments.get(key)
            if there is None:
                self._segments[key] = content
                taken_bytes = 0
            elif there != content:
                raise AlreadyExists(f"segment {key} exists with other content")
        finally:
            self._bytes_taken -= taken_bytes

    async def replace(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        content = b"".join([bytes(chunk) async for chunk in chunks])
        await self.delete(key)

        async def whole() -> AsyncIterator[bytes]:
            yield content

        await self.put(key, whole())

    async def evict(self, key: str) -> None:
        self._segment(key)

    async def read(self, key: str, offset: int, length: int) -> bytes:
        check_range(offset, length)
        return self._segment(key)[offset : offset + length]

    async def size(self, key: str) -> int:
        return len(self._segment(key))

    async def list(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        return sorted(key for key in self._segments if key.startswith(prefix))

    async def delete(self, key: str) -> None:
        check_key(key)
        self._bytes_taken -= len(self._segments.pop(key, b""))

    async def close(self) -> None:
        """Do nothing: segments stay as long as the object."""

    def _segment(self, key: str) -> bytes:
        check_key(key)
        segment = self._segments.get(key)
        if segment is None:
            raise NotFound(f"there is no segment {key}")
        return segment
