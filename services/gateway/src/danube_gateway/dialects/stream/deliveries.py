"""Deliveries to streaming clients: batches of what owners sent, without a look at the messages. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

import google_crc32c
import lz4.frame  # type: ignore[import-untyped]
import zstandard

from danube_common.errors import InvalidInput
from danube_common.model.run import Run
from danube_proto import danube_stream_pb2 as api

COMPRESSED_FROM_BYTES: Final = 512
"""Smaller bodies are sent as they are."""
BATCH_BYTES_MAX: Final = 1024 * 1024
"""Bytes of the messages of one batch, unless a single message is larger."""
BATCH_MESSAGES_MAX: Final = 4096
ZSTD_LEVEL: Final = 1
END_BYTES: Final = 4
"""Of a message in the table of its batch."""


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

    def take(self, run: Run) -> Run:
        """Return what of a run may be sent as one batch now, at least one message; `is_open` is true."""
        run = run.head(min(self.messages, BATCH_MESSAGES_MAX))
        run = run.head(max(run.count_within(BATCH_BYTES_MAX), 1))
        run = run.head(run.count_until(self.bytes))
        self.messages -= len(run)
        self.bytes -= body_bytes(run)
        return run


def body_bytes(run: Run) -> int:
    """Return the size of a run's body before compression."""
    return run.size + END_BYTES * len(run)


def joined(runs: Sequence[Run]) -> list[Run]:
    """Join neighbours whose positions are adjacent, and messages without, as far as one batch takes."""
    found: list[Run] = []
    waiting: list[Run] = []
    messages = size = 0
    for run in runs:
        last = waiting[-1] if waiting else None
        if last is not None and (
            run.first != (last.last + 1 if last.first else 0)
            or messages + len(run) > BATCH_MESSAGES_MAX
            or size + run.size > BATCH_BYTES_MAX
        ):
            found.append(_join(waiting))
            waiting, messages, size = [], 0, 0
        waiting.append(run)
        messages += len(run)
        size += run.size
    if waiting:
        found.append(_join(waiting))
    return found


def _join(runs: list[Run]) -> Run:
    if len(runs) == 1:
        return runs[0]
    return Run.of(runs[0].first, [message for run in runs for message in run.messages()])


def compression_of(accepted: Iterable[api.Compression]) -> api.Compression:
    """Return the first compression that this gateway has. Raises InvalidInput for what is none."""
    for compression in accepted:
        if compression not in api.Compression.values():
            raise InvalidInput(f"compression {compression} is none of this platform")
        return compression
    return api.COMPRESSION_NONE


def batch_of(run: Run, compression: api.Compression = api.COMPRESSION_NONE) -> api.Batch:
    """Return the messages of a run as a batch."""
    ends = run.ends[run.low : run.high]
    if start := run.start:
        ends = tuple([end - start for end in ends])
    body = b"".join((struct.pack(f"<{len(ends)}I", *ends), run.body()))
    crc = google_crc32c.value(body)
    size = len(body)
    if compression and size >= COMPRESSED_FROM_BYTES:
        if compression == api.COMPRESSION_ZSTD:
            body = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)
        else:
            body = lz4.frame.compress(body)
    else:
        compression = api.COMPRESSION_NONE
    return api.Batch(
        body=body,
        messages=len(ends),
        crc32c=crc,
        compression=compression,
        body_bytes=size,
    )
