"""What a splitter is: it cuts the bytes of a file into messages. Splitters are pure."""

from __future__ import annotations

from typing import Protocol

RECORD_BYTES_MAX = 64 * 1024 * 1024
"""A longer line, row or message is not read: no topic takes one."""


class UnreadableError(ValueError):
    """The input cannot be read on from here: reading failed, or it has not the form that it should have."""


Records = list[bytes | ValueError]
"""Messages in order. A ValueError stands for one that cannot be sent, an UnreadableError for all the rest."""


class Splitter(Protocol):
    """Cuts the bytes of a file into messages.

    Attributes:
        noun: what one of them is in the file.
    """

    noun: str

    def feed(self, chunk: bytes) -> Records:
        """Take the next bytes and return the messages that are complete with them."""

    def end(self) -> Records:
        """Return what is left when the file has ended."""


def too_long() -> UnreadableError:
    """Return the error for a record above RECORD_BYTES_MAX."""
    return UnreadableError(f"longer than {RECORD_BYTES_MAX} bytes")
