from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.protocol.parser import Parser

from danube_common.nats import parser as nats_parser
from danube_common.nats.connection import Connection
from danube_common.nats.parser import GatheringParser

Delivered = tuple[int, bytes, bytes, bytes, bytes | None]


class Client:
    """Keeps what the parser hands over."""

    def __init__(self) -> None:
        self.delivered: list[Delivered] = []
        self.pings = 0

    async def _process_msg(self, *message: Any) -> None:
        self.delivered.append(message)

    async def _process_ping(self) -> None:
        self.pings += 1


MESSAGES = st.lists(
    st.one_of(
        st.none(), st.tuples(st.binary(max_size=120), st.sampled_from([b"", b"NATS/1.0\r\na: b\r\n\r\n"]))
    ),
    max_size=8,
)


def wire(messages: list[tuple[bytes, bytes] | None]) -> bytes:
    """What a server sends; None is a ping."""
    lines = []
    for message in messages:
        if message is None:
            lines.append(b"PING\r\n")
            continue
        payload, headers = message
        if headers:
            size = len(headers) + len(payload)
            lines.append(b"HMSG a.b 7 r %d %d\r\n%s%s\r\n" % (len(headers), size, headers, payload))
        else:
            lines.append(b"MSG a.b 7 %d\r\n%s\r\n" % (len(payload), payload))
    return b"".join(lines)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_parser, "GATHERED_BYTES_MIN", 16)


async def parsed(parser: type[Parser], pieces: list[bytes]) -> tuple[list[Delivered], int]:
    client = Client()
    reading: Any = parser(client)
    for piece in pieces:
        await reading.parse(piece)
    return client.delivered, client.pings


@given(MESSAGES, st.lists(st.integers(1, 60), max_size=40))
def test_messages_in_pieces_of_any_size_are_handed_over_as_nats_py_does(
    messages: list[tuple[bytes, bytes] | None], sizes: list[int]
) -> None:
    data, pieces = wire(messages), []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    pieces.append(data)
    expected = asyncio.run(parsed(Parser, [wire(messages)]))
    assert len(expected[0]) == sum(message is not None for message in messages)
    assert asyncio.run(parsed(GatheringParser, [piece for piece in pieces if piece])) == expected


@given(st.integers(1, 200))
def test_an_end_mark_that_comes_in_two_pieces_is_an_end_mark(size: int) -> None:
    data = wire([(b"x" * size, b""), None])
    for at in range(1, len(data)):
        delivered, pings = asyncio.run(parsed(GatheringParser, [data[:at], data[at:]]))
        assert ([message[3] for message in delivered], pings) == ([b"x" * size], 1)


async def test_a_new_connection_begins_with_nothing_of_the_old_one() -> None:
    client = Client()
    parser = GatheringParser(client)  # type: ignore[arg-type]
    await parser.parse(wire([(b"x" * 100, b"")])[:50])
    parser.reset()
    await parser.parse(wire([(b"y" * 100, b"")]))
    assert [message[3] for message in client.delivered] == [b"y" * 100]


def test_headers_are_read_as_nats_py_reads_them() -> None:
    raw = b"Nats-Sequence: 12\r\nNats-Time-Stamp:2026-01-01T00:00:00Z\r\nEmpty:\r\nName: \xc3\xa4: b \r\n\r\n"
    assert Connection._parse_header_lines(raw) == super(Connection, Connection)._parse_header_lines(raw)
