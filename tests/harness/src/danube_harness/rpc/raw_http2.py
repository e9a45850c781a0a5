"""An HTTP/2 client that sends what gRPC libraries would not, and shows an answer's headers as they travel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from danube_common.rpc.grpc_framing import MessageReader, framed

TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 1 << 26
CHUNK_BYTES_MAX = 1 << 16
GRPC = ("content-type", "application/grpc")


@dataclass
class RawAnswer:
    """What came of one call.

    Attributes:
        blocks: the header blocks in order; the last one holds the trailers.
        reset: the error code, if the server reset the stream.
    """

    blocks: list[list[tuple[str, str]]] = field(default_factory=list)
    body: bytes = b""
    reset: int | None = None
    ended: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """All headers and trailers."""
        return dict(header for block in self.blocks for header in block)

    @property
    def status(self) -> str:
        """The gRPC status, empty if none came."""
        return self.headers.get("grpc-status", "")

    @property
    def messages(self) -> list[bytes]:
        """The messages that came in full."""
        reader = MessageReader(ANSWER_BYTES_MAX)
        reader.add(self.body)
        return list(iter(reader.next, None))


class RawStream:
    """One call that was begun."""

    def __init__(self, client: RawClient, stream_id: int) -> None:
        self._client = client
        self.id = stream_id
        self.answer = RawAnswer()

    @property
    def window(self) -> int:
        """How many bytes the server would take now."""
        return self._client.h2.local_flow_control_window(self.id)

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Send bytes of the body, which the window must allow."""
        size = self._client.h2.max_outbound_frame_size
        pieces = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        for number, piece in enumerate(pieces, 1):
            self._client.h2.send_data(self.id, piece, end_stream=end and number == len(pieces))
        self._client.flush()

    def cancel(self) -> None:
        """Reset the stream."""
        self._client.h2.reset_stream(self.id, error_code=8)
        self._client.flush()

    async def until(self, reached: Callable[[RawAnswer], bool]) -> RawAnswer:
        """Receive until the answer is as wanted. Raises TimeoutError."""
        async with asyncio.timeout(TIMEOUT_S):
            while not reached(self.answer):
                await self._client.receive()
        return self.answer

    async def end(self) -> RawAnswer:
        """Receive the whole answer."""
        return await self.until(lambda answer: answer.ended)


class RawClient:
    """One connection.

    Args:
        addr: ``host:port``.
        acknowledge: give the server its window back for what it sent.
        own_host: the address that the server sees; empty: the system chooses.
    """

    def __init__(self, addr: str, *, acknowledge: bool = True, own_host: str = "") -> None:
        self._addr = addr
        self._own = (own_host, 0) if own_host else None
        self._acknowledge = acknowledge
        self._streams: dict[int, RawStream] = {}
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))

    async def __aenter__(self) -> Self:
        host, _, port = self._addr.rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port), local_addr=self._own)
        self.h2.initiate_connection()
        self.flush()
        # The server's bounds on frames and windows.
        async with asyncio.timeout(TIMEOUT_S):
            while not any(
                isinstance(event, h2.events.RemoteSettingsChanged) for event in await self.receive()
            ):
                pass
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def open(
        self,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        te: bool = True,
        **pseudo: str,
    ) -> RawStream:
        """Begin a call. Its content type is gRPC's unless ``headers`` have one."""
        stream = RawStream(self, self.h2.get_next_available_stream_id())
        self._streams[stream.id] = stream
        fixed = {"method": "POST", "scheme": "http", "authority": self._addr, "path": path} | pseudo
        trailers = [("te", "trailers")] if te else []
        kind = [] if any(name == "content-type" for name, _ in headers) else [GRPC]
        self.h2.send_headers(
            stream.id, [*((f":{name}", value) for name, value in fixed.items()), *kind, *trailers, *headers]
        )
        self.flush()
        return stream

    async def call(
        self,
        path: str,
        body: bytes,
        headers: Sequence[tuple[str, str]] = (),
        *,
        te: bool = True,
        **pseudo: str,
    ) -> RawAnswer:
        """Make a call with the whole ``body``, as it is."""
        stream = self.open(path, headers, te=te, **pseudo)
        stream.send(body, end=True)
        return await stream.end()

    def flush(self) -> None:
        """Write what the library has to say."""
        self._writer.write(self.h2.data_to_send())

    async def receive(self) -> list[h2.events.Event]:
        """Receive what is there, or wait for it; streams keep their part."""
        data = await self._reader.read(CHUNK_BYTES_MAX)
        if not data:
            raise ConnectionError("the server closed the connection")
        events = self.h2.receive_data(data)
        for event in events:
            stream = self._streams.get(getattr(event, "stream_id", None) or 0)
            if stream is not None:
                self._keep(stream, event)
        self.flush()
        return events

    def _keep(self, stream: RawStream, event: h2.events.Event) -> None:
        answer = stream.answer
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                block = [(name.decode(), value.decode()) for name, value in event.headers or ()]
                answer.blocks.append(block)
            case h2.events.DataReceived():
                answer.body += event.data or b""
                if self._acknowledge:
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream.id)
            case h2.events.StreamEnded():
                answer.ended = True
            case h2.events.StreamReset():
                answer.ended = True
                answer.reset = event.error_code
            case _:
                pass


async def call(addr: str, method: str, request: bytes) -> RawAnswer:
    """One unary gRPC call over a connection of its own.

    Raises:
        ConnectionError: it ended without a status.
    """
    async with RawClient(addr) as client:
        answer = await client.call(method, framed([request]))
    if answer.reset:
        raise ConnectionError(f"the server ended the call without a status: {answer.reset}")
    return answer
