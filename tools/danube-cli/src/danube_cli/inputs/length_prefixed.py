"""Input of binary messages, each behind its length."""

from __future__ import annotations

from danube_cli.inputs.splitter import RECORD_BYTES_MAX, Records, UnreadableError, too_long

PREFIX_BYTES = 4
"""The length of a message: an unsigned number, the highest byte first."""


class LengthPrefixed:
    """Cuts messages that each have their length in four bytes before them."""

    noun = "message"

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Records:
        """Return the messages that end in the chunk."""
        records: Records = []
        rest = self._rest
        rest += chunk
        begin = 0
        while len(rest) - begin >= PREFIX_BYTES:
            body = begin + PREFIX_BYTES
            length = int.from_bytes(rest[begin:body], "big")
            if length > RECORD_BYTES_MAX:
                records.append(too_long())
                break
            if len(rest) < body + length:
                break
            records.append(bytes(rest[body : body + length]))
            begin = body + length
        del rest[:begin]
        return records

    def end(self) -> Records:
        """Return an error if the file ends within a message."""
        have = len(self._rest)
        if not have:
            return []
        if have < PREFIX_BYTES:
            return [UnreadableError(f"the file ends within a length, after {have} of {PREFIX_BYTES} bytes")]
        length = int.from_bytes(self._rest[:PREFIX_BYTES], "big")
        return [
            UnreadableError(f"the file ends within a message, after {have - PREFIX_BYTES} of {length} bytes")
        ]
