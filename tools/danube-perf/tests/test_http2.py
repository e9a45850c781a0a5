from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_perf.http2 import Http2, ProtocolError, Stream, frame

Answer = tuple[int, str, list[bytes]]


class Server:
    """A gRPC server made of another HTTP/2 library, joined to a client in memory."""

    def __init__(self, window: int = 65_535) -> None:
        self.client = Http2("localhost:1")
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.http2.initiate_connection()
        self.http2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.complete: list[int] = []
        self.reset: list[int] = []
        self.exchange()

    def exchange(self, chunk: int = 1 << 30) -> None:
        """Carry bytes both ways until nobody has any, in pieces of ``chunk`` to the client."""
        while True:
            for event in self.http2.receive_data(self.client.output()):
                self._note(event)
            data = self.http2.data_to_send()
            if not data:
                return
            for at in range(0, len(data), chunk):
                self.client.receive(data[at : at + chunk])

    def _note(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.headers[event.stream_id] = dict(event.headers)
            self.bodies[event.stream_id] = bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.complete.append(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.reset.append(event.stream_id)

    def answer(self, stream: int, messages: Iterable[bytes], status: str = "0", text: str = "") -> None:
        self.http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self.send(stream, messages)
        self.http2.send_headers(stream, [("grpc-status", status), ("grpc-message", text)], end_stream=True)

    def send(self, stream: int, messages: Iterable[bytes]) -> None:
        body = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
        for at in range(0, len(body), 16_384):
            self.http2.send_data(stream, body[at : at + 16_384])

    def call(self, message: bytes = b"request") -> tuple[list[Answer], Stream | None]:
        answers: list[Answer] = []
        stream = self.client.call(b"/a.B/C", message, lambda *answer: answers.append(answer))
        return answers, stream


def test_a_request_is_what_official_clients_send() -> None:
    server = Server()
    server.call(b"hello")
    server.exchange()
    assert server.headers[1] == {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/a.B/C",
        b":authority": b"localhost:1",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"user-agent": b"danube-perf",
    }
    assert bytes(server.bodies[1]) == b"\0\0\0\0\x05hello"
    assert server.complete == [1]


@settings(max_examples=30)
@given(
    messages=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    chunk=st.integers(1, 60),
    status=st.integers(0, 16),
)
def test_an_answer_is_the_same_however_its_bytes_are_cut(
    messages: list[bytes], chunk: int, status: int
) -> None:
    server = Server()
    answers, _ = server.call()
    again, _ = server.call()
    server.exchange(chunk)
    server.answer(1, messages, str(status), "100%25 sure")
    server.answer(3, messages, str(status), "100%25 sure")
    server.exchange(chunk)
    assert answers == again == [(status, "100% sure", messages)]
    assert server.client.calls == 0


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(0, 70_000), min_size=1, max_size=3), window=st.integers(500, 70_000))
def test_requests_arrive_whole_within_any_window_of_the_server(sizes: list[int], window: int) -> None:
    server = Server(window)
    for number, size in enumerate(sizes):
        server.call(bytes([number]) * size)
    server.exchange()
    assert server.complete == [1 + 2 * number for number in range(len(sizes))]
    for number, size in enumerate(sizes):
        assert bytes(server.bodies[1 + 2 * number][5:]) == bytes([number]) * size


def test_a_stream_hands_over_its_messages_as_they_come_and_waits_for_its_reader() -> None:
    server = Server()
    arrived: list[bytes] = []
    answers: list[Answer] = []
    stream = server.client.call(b"/a.B/C", b"", lambda *answer: answers.append(answer), arrived.extend)
    assert stream is not None
    server.exchange()
    server.http2.send_headers(1, [(":status", "200")])
    server.send(1, [b"one", b"two"])
    server.exchange()
    assert (arrived, answers) == ([b"one", b"two"], [])
    while server.http2.local_flow_control_window(1) >= 10_005:
        server.send(1, [bytes(10_000)])
        server.exchange()
    held = server.http2.local_flow_control_window(1)
    for message in arrived:
        server.client.grant(stream, len(message))
    server.exchange()
    assert server.http2.local_flow_control_window(1) > held + 500_000
    server.client.cancel(stream)
    server.exchange()
    assert server.reset == [1]
    assert answers == [(1, "cancelled here", [])]


def test_what_ends_a_connection_ends_its_calls() -> None:
    server = Server()
    answers, _ = server.call()
    server.exchange()
    server.client.close("gone")
    later, _ = server.call()
    assert later == []
    server.client.settle()
    assert answers == later == [(14, "gone", [])]


def test_a_reset_and_a_farewell_of_the_server_are_told() -> None:
    server = Server()
    answers, _ = server.call()
    server.exchange()
    server.http2.reset_stream(1, 11)
    server.http2.close_connection()
    server.exchange()
    later, _ = server.call()
    server.client.settle()
    assert answers == [(13, "the server reset the call, HTTP/2 error 11", [])]
    assert later == [(14, "the server is closing the connection", [])]


def test_more_calls_than_the_server_takes_at_one_time_are_refused() -> None:
    server = Server()
    server.http2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    server.exchange()
    server.call()
    answers, _ = server.call()
    server.client.settle()
    assert answers == [(8, "the server takes 1 calls at one time on a connection", [])]


BROKEN: dict[str, Callable[[], bytes]] = {
    "http/1": lambda: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a frame too long": lambda: b"\xff\xff\xff\0\0\0\0\0\1",
    "an interrupted header": lambda: frame(1, 0, 1, b"\x88") + frame(0, 0, 1, b""),
    "a header block that does not decode": lambda: frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
    "padding longer than the frame": lambda: frame(1, 4, 1, b"\x88") + frame(0, 8, 1, b"\x09abc"),
    "a compressed message": lambda: frame(1, 4, 1, b"\x88") + frame(0, 0, 1, b"\1\0\0\0\1x"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_grpc_is_an_error(data: Callable[[], bytes]) -> None:
    client = Http2("localhost:1")
    client.call(b"/a.B/C", b"", lambda *_: None)
    with pytest.raises(ProtocolError):
        client.receive(data())
