"""Trace contexts (W3C Trace Context) in the attributes of messages. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

ATTRIBUTE: Final = "traceparent"
FOUND_MAX: Final = 32
"""Contexts of one batch that are looked at; what is behind them is not traced there."""

_VERSION: Final = b"00-"
_ENTRY: Final = b"\x0a\x0btraceparent\x12\x37" + _VERSION
"""How the attribute begins in a serialized message: its name, then a text of 55 bytes. The longer what is
searched for, the faster the search."""
_TEXT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f][0-9a-f]")
_TEXT_BYTES: Final = 55
_ATTRIBUTES_TAG: Final = 7 << 3 | 2
"""The field of a message's attributes, the same in every generation."""


class TraceContext(NamedTuple):
    """A span that others continue. ``sampled``: whether its trace is recorded."""

    trace_id: int
    span_id: int
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"


def parse_context(text: str | bytes) -> TraceContext | None:
    """Return the context of a ``traceparent``; None if it is none that this version knows."""
    found = _TEXT.fullmatch(text.encode() if isinstance(text, str) else text)
    if found is None:
        return None
    trace_id, span_id = int(found[1], 16), int(found[2], 16)
    return TraceContext(trace_id, span_id, bool(int(found[0][-2:], 16) & 1)) if trace_id and span_id else None


def has_context(data: bytes) -> bool:
    """Return whether `find_contexts` may find something in ``data``."""
    return _ENTRY in data


def find_contexts(data: bytes, start: int = 0, end: int | None = None) -> list[tuple[int, TraceContext]]:
    """Return (where it stands, context) of the first FOUND_MAX messages in ``data`` that have one.

    The bytes are searched, not decoded: a payload that holds such an attribute looks like one.
    """
    stop = len(data) if end is None else end
    at = data.find(_ENTRY, start, stop)
    found: list[tuple[int, TraceContext]] = []
    while at >= 0 and len(found) < FOUND_MAX:
        begin = at + len(_ENTRY) - len(_VERSION)
        context = parse_context(data[begin : min(begin + _TEXT_BYTES, stop)])
        if context is not None:
            found.append((at, context))
        at = data.find(_ENTRY, begin, stop)
    return found


def with_context(message: bytes, context: TraceContext) -> bytes:
    """Return a serialized message with the attribute added. It must have none of this name."""
    entry = _ENTRY.removesuffix(_VERSION) + str(context).encode()
    return b"".join((message, bytes((_ATTRIBUTES_TAG, len(entry))), entry))
