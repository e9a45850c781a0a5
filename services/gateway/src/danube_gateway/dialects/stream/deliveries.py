"""Deliveries to streaming clients: batches of what owners sent, without a look at the messages. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import google_crc32c
import lz4.frame  # type: ignore[import-untyped]
import zstandard

from danube_common.errors import InvalidInput
from danube_common.model.run import Run, back_to_back
from danube_proto import danube_stream_pb2 as api

COMPRESSED_FROM_BYTES: Final = 512
"""Smaller bodies are sent as they are."""
BATCH_BYTES_MAX: Final = 1024 * 1024
"""Bytes of the messages of one batch, unless a single message is larger."""
BATCH_MESSAGES_MAX: Final = 4096
ZSTD_LEVEL: Final = 1


class ClientCredit:
    """What a client may still be sent, from totals since the stream began."""

    def __init__(self, credit: api.Credit) -> None:
        self.messages = 0
        self.bytes = 0
        self._messages_total = 0
        self._bytes_total = 0
        self.grant(credit)

    def grant(self, credit: api.Credit) -> None:
        """Raise the totals; lower ones change nothing."""
        more_messages = max(credit.messages_total - self._messages_total, 0)
        more_bytes = max(credit.bytes_total - self._bytes_total, 0)
        self._messages_total += more_messages
        self._bytes_total += more_bytes
        self.messages += more_messages
        self.bytes += more_bytes

    @property
    def is_open(self) -> bool:
        """Whether one more message may be sent."""
        return self.messages > 0 and self.bytes > 0

    def spend(self, messages: int, size: int) -> None:
        """Count messages that are sent, and the bytes of their bodies; the last one may exceed the credit."""
        self.messages -= messages
        self.bytes -= size


def joined(runs: Iterable[Run], *, scattered: bool = False) -> Iterator[list[Run]]:
    """Yield the runs in order, in lists of those that one delivery names by its first position.

    ``scattered``: and by `steps_of`, for which offsets have to grow as positions do.
    """
    group: list[Run] = []
    after = shift = 0
    for run in runs:
        first = run.first
        if group and first != after and (not scattered or first < after or first - run.offset != shift):
            yield group
            group = []
        group.append(run)
        after = first + run.high - run.low if first else 0
        shift = first - run.offset
    if group:
        yield group


def steps_of(runs: Sequence[Run]) -> list[int]:
    """Return how far each message but the first lies behind the one before it; nothing if always one."""
    if len(runs) == 1 or not runs[0].first:
        return []
    steps: list[int] = []
    last = runs[0].first - 1
    for run in runs:
        steps.append(run.first - last)
        if (count := run.high - run.low) > 1:
            steps += [1] * (count - 1)
        last = run.first + count - 1
    return steps[1:] if last - runs[0].first >= len(steps) else []


def compression_of(accepted: Iterable[api.Compression]) -> api.Compression:
    """Return the first compression that this gateway has. Raises InvalidInput for what is none."""
    for compression in accepted:
        if compression not in api.Compression.values():
            raise InvalidInput(f"compression {compression} is none of this platform")
        return compression
    return api.COMPRESSION_NONE


def batch_of(runs: Sequence[Run], compression: api.Compression = api.COMPRESSION_NONE) -> api.Batch:
    """Return the messages of runs, one after the other, as a batch."""
    ends: list[int] = []
    size = 0
    stretches = back_to_back(runs)
    for run in stretches:
        shift = size - run.start
        part = run.ends[run.low : run.high]
        ends += [end + shift for end in part] if shift else part
        size += run.size
    body = b"".join((struct.pack(f"<{len(ends)}I", *ends), *[run.body() for run in stretches]))
    sent, used = body, api.COMPRESSION_NONE
    if compression and len(body) >= COMPRESSED_FROM_BYTES:
        shorter = _compressed(body, compression)
        if len(shorter) < len(body):
            sent, used = shorter, compression
    return api.Batch(
        body=sent,
        messages=len(ends),
        crc32c=google_crc32c.value(body),
        compression=used,
        body_bytes=len(body),
    )


def _compressed(body: bytes, compression: api.Compression) -> bytes:
    if compression == api.COMPRESSION_ZSTD:
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)
    return bytes(lz4.frame.compress(body))
