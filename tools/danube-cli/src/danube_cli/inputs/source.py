"""Reads the messages of a file or a pipe without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import AsyncIterator
from typing import BinaryIO

from danube_cli.inputs.splitter import RECORD_BYTES_MAX, Records, Splitter, UnreadableError, too_long

READ_BYTES = 1 << 18
# How soon a thread that waits for a pipe notices that the iteration has ended.
STOP_CHECK_S = 0.2


def whole(file: BinaryIO) -> bytes:
    """Return the bytes of a file that is one message. Raises ValueError if they are too many."""
    try:
        data = file.read(RECORD_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > RECORD_BYTES_MAX:
        raise too_long()
    return data


class Source:
    """Iterates over the messages, as many at once as were read at once.

    Attributes:
        splitter: cuts the bytes into messages.
        read_bytes: the bytes that were read so far.
    """

    def __init__(self, file: BinaryIO, splitter: Splitter) -> None:
        self.splitter = splitter
        self.read_bytes = 0
        self._descriptor = file.fileno()
        self._stopped = threading.Event()

    def size_bytes(self) -> int | None:
        """Return the size of a regular file; None for a pipe or a terminal."""
        size = os.fstat(self._descriptor).st_size
        return size or None

    async def __aiter__(self) -> AsyncIterator[Records]:
        """Yield what was read; nothing comes after an UnreadableError."""
        try:
            ended = False
            while not ended:
                records, ended = await asyncio.to_thread(self._next)
                if records:
                    yield records
        finally:
            self._stopped.set()

    def _next(self) -> tuple[Records, bool]:
        """Return the next messages, and whether they are the last."""
        try:
            chunk = self._read()
        except OSError as error:
            return [UnreadableError(f"cannot be read: {error.strerror}")], True
        self.read_bytes += len(chunk)
        records = self.splitter.feed(chunk) if chunk else self.splitter.end()
        return records, not chunk or bool(records and isinstance(records[-1], UnreadableError))

    def _read(self) -> bytes:
        while not self._stopped.is_set():
            ready, _, _ = select.select([self._descriptor], [], [], STOP_CHECK_S)
            if ready:
                return os.read(self._descriptor, READ_BYTES)
        return b""
