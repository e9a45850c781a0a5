"""Input of one message a line."""

from __future__ import annotations

from danube_cli.inputs.splitter import RECORD_BYTES_MAX, Records, too_long


class Lines:
    """Cuts at newlines, which belong to no message; the last line need not have one."""

    noun = "line"

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self._begun_bytes = 0

    def feed(self, chunk: bytes) -> Records:
        """Return the lines that end in the chunk."""
        first, *others = chunk.split(b"\n")
        if self._begun_bytes + len(first) > RECORD_BYTES_MAX:
            return [too_long()]
        self._begun.append(first)
        self._begun_bytes += len(first)
        if not others:
            return []
        records: Records = [b"".join(self._begun), *others[:-1]]
        self._begun, self._begun_bytes = [others[-1]], len(others[-1])
        return records

    def end(self) -> Records:
        """Return the line without a newline, if there is one."""
        return [b"".join(self._begun)] if self._begun_bytes else []
