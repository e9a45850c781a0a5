"""Verification of a whole segment: every byte is read, and compared with the segment's record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from danube_common.archive.records import SegmentRecord
from danube_common.errors import CorruptData, NotFound
from danube_common.segment.reader import EntryReader, SegmentIndex, parse_tail
from danube_storage.reading.open_segment import read_tail
from danube_storage.segments.port import SegmentReader

READ_BYTES = 1 << 20
MISSING = "it is missing"

Pace = Callable[[int], Awaitable[None]]
"""Called with the bytes that were just read; waits as long as the bound on the rate asks for."""


async def _at_once(_size_bytes: int) -> None:
    return


async def verified_chunks(
    store: SegmentReader, record: SegmentRecord, pace: Pace = _at_once
) -> AsyncGenerator[bytes]:
    """Yield the bytes of a segment in order.

    The segment is intact if the generator ends. Raises CorruptData, NotFound, StoreUnavailable.
    """
    key = record.key
    index = await read_tail(store, key)
    _check(index, record)
    info = index.info
    reader = EntryReader(index)
    for offset in range(0, info.data_bytes, READ_BYTES):
        data = await store.read(key, offset, min(READ_BYTES, info.data_bytes - offset))
        await pace(len(data))
        await asyncio.to_thread(reader.feed, data)
        yield data
    reader.finish()
    tail = b""
    for offset in range(info.data_bytes, info.size_bytes, READ_BYTES):
        tail += await store.read(key, offset, min(READ_BYTES, info.size_bytes - offset))
    # The tail is read a second time here.
    _check(parse_tail(tail, info.data_bytes + len(tail)), record)
    yield tail


async def damage_of(store: SegmentReader, record: SegmentRecord, pace: Pace = _at_once) -> str:
    """Return why a segment is not the one of its record; empty if it is. Raises StoreUnavailable."""
    try:
        async for _ in verified_chunks(store, record, pace):
            pass
    except CorruptData as error:
        return str(error)
    except NotFound:
        return MISSING
    return ""


def _check(index: SegmentIndex, record: SegmentRecord) -> None:
    info = index.info
    if (info.data_crc32c, info.size_bytes) != (record.data_crc32c, record.size_bytes):
        raise CorruptData("it is another segment than the manifest names")
