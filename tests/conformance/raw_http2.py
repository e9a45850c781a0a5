"""Just enough HTTP/2 to see an answer's headers as they travel, before any library decodes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE = 1
STREAM_ID = 1
TIMEOUT_S = 20.0

# RFC 7541, appendix A: names (and values, after a space) by index from 1.
_STATIC = (
    ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|"
    ":status 204|:status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|"
    "accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|"
    "allow|authorization|cache-control|content-disposition|content-encoding|content-language|"
    "content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|"
    "if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|"
    "max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|"
    "set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
STATIC_TABLE = _STATIC.split("|")

# RFC 7541, appendix B: the code is canonical, so lengths are enough. Longer codes are not for header text.
HUFFMAN_LENGTHS = {
    5: "012aceiost",
    6: " %-./3456789=A_bdfghlmnpru",
    7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: "&*,;XZ",
    10: '!"()?',
    11: "'+|",
    12: "#>",
    13: "\0$@[]~",
    14: "^}",
    15: "<`{",
}


@dataclass
class RawAnswer:
    """``blocks``: the header blocks in order, the last one holds the trailers."""

    blocks: list[list[tuple[str, str]]] = field(default_factory=list)
    body: bytes = b""


async def call(addr: str, method: str, request: bytes) -> RawAnswer:
    """One unary gRPC call over a connection of its own."""
    host, _, port = addr.rpartition(":")
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            no_table = HEADER_TABLE_SIZE.to_bytes(2, "big") + bytes(4)
            body = b"\x00" + len(request).to_bytes(4, "big") + request
            writer.write(PREFACE + _frame(SETTINGS, 0, no_table, stream=0))
            writer.write(_frame(HEADERS, END_HEADERS, _request_headers(addr, method)))
            writer.write(_frame(DATA, END_STREAM, body))
            return await _answer(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> RawAnswer:
    answer = RawAnswer()
    block = b""
    ends = False
    while True:
        kind, flags, stream, payload = await _read_frame(reader)
        if kind == SETTINGS and not flags & ACK:
            writer.write(_frame(SETTINGS, ACK, b"", stream=0))
        elif kind == PING and not flags & ACK:
            writer.write(_frame(PING, ACK, payload, stream=0))
        elif kind == GOAWAY or (kind == RST_STREAM and stream == STREAM_ID):
            raise ConnectionError(f"the server ended the call without a status: {payload.hex()}")
        if stream != STREAM_ID or kind not in {DATA, HEADERS, CONTINUATION}:
            continue
        ends = ends or (kind != CONTINUATION and bool(flags & END_STREAM))
        if kind == DATA:
            answer.body += _unpadded(flags, payload)
        else:
            block += _header_fragment(kind, flags, payload)
            if flags & END_HEADERS:
                answer.blocks.append(_headers(block))
                block = b""
        if ends and not block:
            return answer


async def _read_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    return head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload


def _frame(kind: int, flags: int, payload: bytes, *, stream: int = STREAM_ID) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED else payload


def _header_fragment(kind: int, flags: int, payload: bytes) -> bytes:
    if kind == CONTINUATION:
        return payload
    payload = _unpadded(flags, payload)
    return payload[5:] if flags & PRIORITY else payload


def _request_headers(addr: str, method: str) -> bytes:
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", addr),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
    return b"".join(b"\x00" + _plain(name) + _plain(value) for name, value in headers)


def _plain(text: str) -> bytes:
    assert len(text) < 127, "lengths of one byte are enough here"
    return bytes((len(text),)) + text.encode()


def _headers(block: bytes) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 7)
            name, _, value = STATIC_TABLE[index - 1].partition(" ")
            headers.append((name, value))
        elif first & 0xE0 == 0x20:
            _, at = _integer(block, at, 5)
        else:
            index, at = _integer(block, at, 6 if first & 0xC0 == 0x40 else 4)
            if index:
                name = STATIC_TABLE[index - 1].partition(" ")[0]
            else:
                name, at = _text(block, at)
            value, at = _text(block, at)
            headers.append((name, value))
    return headers


def _integer(data: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    limit = (1 << prefix_bits) - 1
    value = data[at] & limit
    at += 1
    if value < limit:
        return value, at
    shift = 0
    while True:
        byte = data[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _text(data: bytes, at: int) -> tuple[str, int]:
    huffman = bool(data[at] & 0x80)
    length, at = _integer(data, at, 7)
    raw = data[at : at + length]
    return (_huffman(raw) if huffman else raw.decode("latin-1")), at + length


def _codes() -> dict[tuple[int, int], str]:
    codes = {}
    code = 0
    before = 5
    for length, symbols in HUFFMAN_LENGTHS.items():
        code <<= length - before
        before = length
        for symbol in symbols:
            codes[length, code] = symbol
            code += 1
    return codes


_CODES = _codes()


def _huffman(data: bytes) -> str:
    text = ""
    code = length = 0
    for byte in data:
        for bit in range(7, -1, -1):
            code = code << 1 | byte >> bit & 1
            length += 1
            symbol = _CODES.get((length, code))
            if symbol is not None:
                text += symbol
                code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise ValueError(f"not a header text: {data.hex()}")
    return text
