"""The client's half of an HTTP/2 connection, as far as gRPC needs it: bytes in, bytes out, no I/O.

It exists because the measuring client must be cheaper than what it measures: a call of `grpc.aio` takes 75 µs
of CPU, one of this 16, with all that is measured. The peer is told to compress headers without a table
(``SETTINGS_HEADER_TABLE_SIZE`` 0), so equal header blocks mean equal headers and each is decoded once.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import hpack

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES_MAX: Final = 16_384
FRAME_HEAD_BYTES: Final = 9
PREFIX_BYTES: Final = 5
STREAM_WINDOW_BYTES: Final = 1 << 20
"""What a stream may send before its reader has given bytes back; a unary answer is smaller."""
CONNECTION_WINDOW_BYTES: Final = 1 << 30
STREAM_ID_MAX: Final = (1 << 31) - 1
HEADER_BYTES_MAX: Final = 1 << 20
BLOCKS_REMEMBERED_MAX: Final = 1024
MESSAGE_BYTES_MAX: Final = 64 << 20

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
SETTINGS_HEADER_TABLE_SIZE, SETTINGS_ENABLE_PUSH, SETTINGS_CALLS_MAX, SETTINGS_WINDOW = 1, 2, 3, 4
CANCEL: Final = 8

OK, CANCELLED, UNKNOWN, INTERNAL, UNAVAILABLE, RESOURCE_EXHAUSTED = 0, 1, 2, 13, 14, 8

Ended = Callable[[int, str, list[bytes]], None]
"""Called once with the gRPC status, its text, and the messages that were not handed over before."""
Arrived = Callable[[list[bytes]], None]
"""Called with whole messages of a stream, as they come."""


class ProtocolError(Exception):
    """The peer broke HTTP/2 or gRPC; the connection is of no more use."""


class Stream:
    """One call that has not ended."""

    __slots__ = ("arrived", "begun", "ended", "messages", "number", "owed", "status", "text", "window")

    def __init__(self, number: int, window: int, ended: Ended, arrived: Arrived | None) -> None:
        self.number = number
        self.window = window
        self.ended = ended
        self.arrived = arrived
        self.messages: list[bytes] = []
        self.begun = b""
        self.owed = 0
        self.status = UNKNOWN
        self.text = "the call ended without a status"


class Http2:
    """Calls on one connection.

    Args:
        authority: ``host:port``, for the ``:authority`` header.
    """

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._out: list[bytes] = [
            PREFACE,
            frame(
                SETTINGS,
                0,
                0,
                _setting(SETTINGS_HEADER_TABLE_SIZE, 0)
                + _setting(SETTINGS_ENABLE_PUSH, 0)
                + _setting(SETTINGS_WINDOW, STREAM_WINDOW_BYTES),
            ),
            _window_update(0, CONNECTION_WINDOW_BYTES - 65_535),
        ]
        self._rest = b""
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._window = 65_535
        self._peer_stream_window = 65_535
        self._calls_max = STREAM_ID_MAX
        self._owed = 0
        self._blocked: deque[tuple[Stream, bytes]] = deque()
        self._refused: list[tuple[Ended, int, str]] = []
        self._requests: dict[bytes, bytes] = {}
        self._decoder = hpack.Decoder(max_header_list_size=HEADER_BYTES_MAX)
        self._blocks: dict[bytes, tuple[int | None, str]] = {}
        self._header_of: tuple[int, int, bytes] | None = None
        self._closing = ""
        self._greeted = False

    @property
    def calls(self) -> int:
        """How many calls have not ended."""
        return len(self._streams)

    def call(
        self, path: bytes, message: bytes, ended: Ended, arrived: Arrived | None = None
    ) -> Stream | None:
        """Begin a call with its one request; if it cannot begin, the next `settle` calls ``ended``.

        Args:
            path: ``/package.Service/Method``.
            message: the request, encoded.
            ended: gets the outcome.
            arrived: gets the messages of a server stream; its reader gives back their bytes by `grant`.
        """
        number = self._next_id
        if self._closing or number > STREAM_ID_MAX:
            text = self._closing or "the connection has used all its stream ids"
            self._refused.append((ended, UNAVAILABLE, text))
            return None
        if len(self._streams) >= self._calls_max:
            text = f"the server takes {self._calls_max} calls at one time on a connection"
            self._refused.append((ended, RESOURCE_EXHAUSTED, text))
            return None
        self._next_id = number + 2
        stream = self._streams[number] = Stream(number, self._peer_stream_window, ended, arrived)
        block = self._requests.get(path)
        if block is None:
            block = self._requests[path] = _request_block(path, self._authority.encode())
        length = len(message)
        size = length + PREFIX_BYTES
        if not self._blocked and size <= FRAME_BYTES_MAX and size <= self._window and size <= stream.window:
            self._window -= size
            stream.window -= size
            self._out.append(
                _HEADERS_DATA(len(block) >> 8, len(block) & 0xFF, HEADERS, END_HEADERS, number)
                + block
                + _DATA_PREFIX(size >> 8, size & 0xFF, DATA, END_STREAM, number, 0, length)
                + message
            )
            return stream
        self._out.append(frame(HEADERS, END_HEADERS, number, block))
        self._blocked.append((stream, struct.pack(">BI", 0, length) + message))
        self._pump()
        return stream

    def grant(self, stream: Stream, size: int) -> None:
        """Let a stream send so many bytes of messages more."""
        stream.owed += size + PREFIX_BYTES
        if stream.owed >= STREAM_WINDOW_BYTES // 4:
            self._out.append(_window_update(stream.number, stream.owed))
            stream.owed = 0

    def cancel(self, stream: Stream) -> None:
        """End a call; its ``ended`` is called with CANCELLED unless it has ended."""
        if self._streams.pop(stream.number, None) is not None:
            self._out.append(frame(RST_STREAM, 0, stream.number, CANCEL.to_bytes(4, "big")))
            stream.ended(CANCELLED, "cancelled here", [])

    def close(self, why: str) -> None:
        """End all calls with UNAVAILABLE, and refuse new ones."""
        self._closing = self._closing or why
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.ended(UNAVAILABLE, why, [])

    def settle(self) -> None:
        """End the calls that could not begin."""
        refused, self._refused = self._refused, []
        for ended, status, text in refused:
            ended(status, text, [])

    def output(self) -> bytes:
        """Return what is to be sent to the peer now, and forget it."""
        if not self._out:
            return b""
        out, self._out = self._out, []
        return b"".join(out)

    def receive(self, data: bytes) -> None:
        """Take bytes of the peer. Raises ProtocolError."""
        if self._rest:
            data = self._rest + data
        if not self._greeted and data.startswith(b"HTTP/"):
            raise ProtocolError("it answers in HTTP/1")
        self._greeted = True
        at, size = 0, len(data)
        while size - at >= FRAME_HEAD_BYTES:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > FRAME_BYTES_MAX:
                raise ProtocolError(f"a frame of {length} bytes")
            end = at + FRAME_HEAD_BYTES + length
            if end > size:
                break
            number = int.from_bytes(data[at + 5 : at + 9], "big") & STREAM_ID_MAX
            self._frame(data[at + 3], data[at + 4], number, data[at + 9 : end])
            at = end
        self._rest = data[at:]

    def _frame(self, kind: int, flags: int, number: int, body: bytes) -> None:  # noqa: PLR0912 - a switch
        if self._header_of is not None:
            if kind != CONTINUATION or number != self._header_of[0]:
                raise ProtocolError("a header block was interrupted")
            self._headers(number, self._header_of[1] | flags & END_HEADERS, self._header_of[2] + body)
        elif kind == DATA:
            self._data(number, flags, body)
        elif kind == HEADERS:
            if flags & PADDED:
                body = _unpadded(body)
            self._headers(number, flags, body[5:] if flags & PRIORITY else body)
        elif kind == WINDOW_UPDATE:
            self._window_update(number, _word(body) & STREAM_ID_MAX)
        elif kind == SETTINGS:
            if not flags & ACK:
                self._settings(body)
        elif kind == PING:
            if not flags & ACK:
                self._out.append(frame(PING, ACK, 0, body))
        elif kind == RST_STREAM:
            if stream := self._streams.pop(number, None):
                stream.ended(INTERNAL, f"the server reset the call, HTTP/2 error {_word(body)}", [])
        elif kind == GOAWAY:
            self._closing = "the server is closing the connection"

    def _data(self, number: int, flags: int, body: bytes) -> None:
        self._owed += len(body)
        if self._owed >= CONNECTION_WINDOW_BYTES // 4:
            self._out.append(_window_update(0, self._owed))
            self._owed = 0
        stream = self._streams.get(number)
        if stream is None:
            return
        if flags & PADDED:
            body = _unpadded(body)
        if stream.begun:
            body = stream.begun + body
        at, size = 0, len(body)
        while size - at >= PREFIX_BYTES:
            length = int.from_bytes(body[at + 1 : at + PREFIX_BYTES], "big")
            if body[at] or length > MESSAGE_BYTES_MAX:
                raise ProtocolError("a compressed or oversized message, which was not asked for")
            end = at + PREFIX_BYTES + length
            if end > size:
                break
            stream.messages.append(body[at + PREFIX_BYTES : end])
            at = end
        stream.begun = body[at:]
        if stream.arrived is not None and stream.messages:
            messages, stream.messages = stream.messages, []
            stream.arrived(messages)
        if flags & END_STREAM:
            self._end(stream)

    def _headers(self, number: int, flags: int, block: bytes) -> None:
        if not flags & END_HEADERS:
            if len(block) > HEADER_BYTES_MAX:
                raise ProtocolError("a header block without an end")
            self._header_of = number, flags, block
            return
        self._header_of = None
        known = self._blocks.get(block)
        if known is None:
            known = self._decoded(block)
            if len(self._blocks) < BLOCKS_REMEMBERED_MAX:
                self._blocks[block] = known
        if (stream := self._streams.get(number)) is None:
            return
        if known[0] is not None:
            stream.status, stream.text = known[0], known[1]
        if flags & END_STREAM:
            self._end(stream)

    def _decoded(self, block: bytes) -> tuple[int | None, str]:
        self._decoder.max_allowed_table_size = 0
        try:
            found = dict(self._decoder.decode(block, raw=True))
        except hpack.HPACKError as error:
            raise ProtocolError(f"a header block that does not decode: {error}") from None
        http = found.get(b":status", b"200")
        if http != b"200":
            return UNAVAILABLE, f"HTTP status {http.decode(errors='replace')}: the peer speaks no gRPC"
        status = found.get(b"grpc-status")
        if status is None:
            return None, ""
        if not status.isdigit():
            raise ProtocolError("a grpc-status that is no number")
        return int(status), unquote(found.get(b"grpc-message", b"").decode(errors="replace"))

    def _end(self, stream: Stream) -> None:
        del self._streams[stream.number]
        stream.ended(stream.status, stream.text, stream.messages)

    def _settings(self, body: bytes) -> None:
        for at in range(0, len(body) - 5, 6):
            what, value = int.from_bytes(body[at : at + 2], "big"), _word(body[at + 2 : at + 6])
            if what == SETTINGS_CALLS_MAX:
                self._calls_max = value
            elif what == SETTINGS_WINDOW:
                change, self._peer_stream_window = value - self._peer_stream_window, value
                for stream in self._streams.values():
                    stream.window += change
        self._out.append(frame(SETTINGS, ACK, 0, b""))
        self._pump()

    def _window_update(self, number: int, size: int) -> None:
        if number == 0:
            self._window += size
        elif stream := self._streams.get(number):
            stream.window += size
        self._pump()

    def _pump(self) -> None:
        """Send what waited for the peer's windows, in the order of the calls."""
        while self._blocked:
            stream, body = self._blocked[0]
            if stream.number not in self._streams:
                self._blocked.popleft()
                continue
            size = min(len(body), FRAME_BYTES_MAX, self._window, stream.window)
            if size <= 0:
                return
            self._window -= size
            stream.window -= size
            last = size == len(body)
            self._out.append(frame(DATA, END_STREAM if last else 0, stream.number, body[:size]))
            if last:
                self._blocked.popleft()
            else:
                self._blocked[0] = stream, body[size:]


_HEADERS_DATA: Final = struct.Struct(">xBBBBI").pack
_DATA_PREFIX: Final = struct.Struct(">xBBBBIBI").pack


def frame(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """Return an HTTP/2 frame."""
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + body


def _window_update(number: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, number, size.to_bytes(4, "big"))


def _setting(what: int, value: int) -> bytes:
    return struct.pack(">HI", what, value)


def _word(body: bytes) -> int:
    return int.from_bytes(body[:4], "big")


def _unpadded(body: bytes) -> bytes:
    if not body or body[0] >= len(body):
        raise ProtocolError("padding longer than its frame")
    return body[1 : len(body) - body[0]]


def _request_block(path: bytes, authority: bytes) -> bytes:
    """Return the headers of a call as official clients send them, without use of the peer's table."""
    headers = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", authority),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"danube-perf"),
    )
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)


def _text(value: bytes) -> bytes:
    """Return a string literal of HPACK."""
    size = len(value)
    if size < 127:
        return bytes((size,)) + value
    rest, head = size - 127, bytearray((127,))
    while rest >= 128:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + value
