"""Spans as OTLP has them on the wire (opentelemetry.proto.collector.trace.v1). Pure.

What is the same in many spans, their names and attributes of text, is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Final

from danube_common.tracing.tracer import Span

KNOWN_MAX: Final = 1024
"""Names and attributes whose encoding is remembered."""
_TIMES: Final = Struct("<BQBQ")
"""start_time_unix_nano (7), end_time_unix_nano (8), with their tags."""
_KIND_SERVER: Final = b"\x30\x02"
_CODE_ERROR: Final = b"\x18\x02"


def encode_request(process: bytes, spans: Iterable[Span]) -> bytes:
    """Return a request that tells a collector of spans of ``process``, what `encode_process` returns."""
    scope_spans = b"\x0a\x08\x0a\x06danube" + b"".join(map(encode_span, spans))
    return _field(b"\x0a", process + _field(b"\x12", scope_spans))


def encode_process(attributes: Mapping[str, str]) -> bytes:
    """Return the resource of a process, as it stands before its spans."""
    return _field(b"\x0a", b"".join(_text(b"\x0a", name, value) for name, value in attributes.items()))


def encode_span(span: Span) -> bytes:
    """Return a span as a field of the message ``ScopeSpans``."""
    context, parent = span.context, span.parent
    parts = [b"\x0a\x10%b\x12\x08%b" % (context.trace_id.to_bytes(16), context.span_id.to_bytes(8))]
    if parent is not None:
        parts.append(b"\x22\x08" + parent.span_id.to_bytes(8))
    parts += (_name(span.name), _TIMES.pack(0x39, span.began_ns, 0x41, span.ended_ns))
    for name, value in span.attributes.items():
        parts.append(_text(b"\x4a", name, value) if isinstance(value, str) else _number(name, value))
    for one in span.links:
        parts.append(b"\x6a\x1c\x0a\x10%b\x12\x08%b" % (one.trace_id.to_bytes(16), one.span_id.to_bytes(8)))
    if span.error:
        parts.append(_field(b"\x7a", _field(b"\x12", _utf8(span.error)) + _CODE_ERROR))
    return _field(b"\x12", b"".join(parts))


@lru_cache(KNOWN_MAX)
def _name(name: str) -> bytes:
    return _field(b"\x2a", _utf8(name)) + _KIND_SERVER


@lru_cache(KNOWN_MAX)
def _text(tag: bytes, name: str, value: str) -> bytes:
    return _field(tag, _key(name) + _field(b"\x12", _field(b"\x0a", _utf8(value))))


def _number(name: str, value: int) -> bytes:
    told = b"\x18" + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    return _field(b"\x4a", b"%b\x12%c%b" % (_key(name), len(told), told))


@lru_cache(KNOWN_MAX)
def _key(name: str) -> bytes:
    return _field(b"\x0a", _utf8(name.replace("__", ".")))


def _field(tag: bytes, value: bytes) -> bytes:
    return tag + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _utf8(text: str) -> bytes:
    """Return text of a client, which may hold what no UTF-8 has."""
    return text.encode(errors="replace")
