"""Reads the lines of a file or a pipe without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import AsyncIterator
from typing import BinaryIO

READ_BYTES = 1 << 18
LINE_BYTES_MAX = 64 * 1024 * 1024
# How soon a thread that waits for a pipe notices that the iteration has ended.
STOP_CHECK_S = 0.2


class UnreadableError(Exception):
    """The input cannot be read on: reading failed, or a line is longer than LINE_BYTES_MAX."""


class Lines:
    """Iterates over the lines without their newlines; the last line need not have one.

    Attributes:
        read_bytes: the bytes that were read so far.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._descriptor = source.fileno()
        self._stopped = threading.Event()
        self.read_bytes = 0

    def size_bytes(self) -> int | None:
        """Return the size of a regular file; None for a pipe or a terminal."""
        size = os.fstat(self._descriptor).st_size
        return size or None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield line by line.

        Raises:
            UnreadableError: reading failed, or a line is too long.
        """
        begun: list[bytes] = []
        begun_bytes = 0
        try:
            while chunk := await asyncio.to_thread(self._read):
                self.read_bytes += len(chunk)
                first, *others = chunk.split(b"\n")
                if begun_bytes + len(first) > LINE_BYTES_MAX:
                    raise UnreadableError(f"longer than {LINE_BYTES_MAX} bytes")
                begun.append(first)
                begun_bytes += len(first)
                if others:
                    yield b"".join(begun)
                    for line in others[:-1]:
                        yield line
                    begun, begun_bytes = [others[-1]], len(others[-1])
            if begun_bytes:
                yield b"".join(begun)
        finally:
            self._stopped.set()

    def _read(self) -> bytes:
        try:
            while not self._stopped.is_set():
                ready, _, _ = select.select([self._descriptor], [], [], STOP_CHECK_S)
                if ready:
                    return os.read(self._descriptor, READ_BYTES)
        except OSError as error:
            raise UnreadableError(f"cannot be read: {error.strerror}") from error
        return b""
