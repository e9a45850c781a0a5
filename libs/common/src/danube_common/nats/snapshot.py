"""Copies whole JetStream streams, with their sequences and times, by JetStream's own snapshots.

Messages that are read and published again would keep neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from danube_common.errors import BusUnavailable, Conflict, InvalidInput, LogUnavailable
from danube_common.nats.connection import Connection
from danube_common.nats.jetstream import (
    STREAM_NOT_FOUND,
    Answer,
    JetStream,
    JetStreamRefused,
    StreamAnswer,
    StreamState,
)

CHUNK_BYTES: Final = 256 << 10
CHUNK_TIMEOUT_S: Final = 30.0
"""The server may take so long for the next part of a snapshot, and for taking one."""
ASK_PATIENCE_S: Final = 10.0
STREAMS_MAX: Final = 1 << 16

_STATUS_HEADER: Final = "Status"
_RESTORE_SUBJECT: Final = "$JS.SNAPSHOT.RESTORE."
_STREAM_EXISTS: Final = 10058


class _RestoreAnswer(Answer):
    deliver_subject: str = ""


class _HeadAnswer(Answer):
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    state: dict[str, Any] = msgspec.field(default_factory=dict)


class _NamesAnswer(Answer):
    streams: list[str] | None = None
    total: int = 0


class Snapshot:
    """A snapshot that the server is sending. Use it as a context; its end stops the sending.

    Attributes:
        head: JSON of the stream's configuration and state, which a restore begins with.
        state: what the stream held when the snapshot began. The copy may hold later messages too.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self.head = b""
        self.state = StreamState()
        self._connection = connection
        self._name = name
        self._inbox = connection.new_inbox()
        # The server sends no more than its window (8 MiB) before it is acknowledged.
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()

    async def begin(self, jetstream: JetStream) -> None:
        """Ask for the snapshot. Raises JetStreamRefused, BusUnavailable."""
        self._subscription = await self._connection.listen(self._inbox, self._arrived.put_nowait)
        question = {"deliver_subject": self._inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES}
        try:
            answer = await jetstream.exchange(
                f"$JS.API.STREAM.SNAPSHOT.{self._name}", msgspec.json.encode(question), _HeadAnswer
            )
        except BaseException:
            await self.close()
            raise
        self.head = msgspec.json.encode({"config": answer.config, "state": answer.state})
        self.state = msgspec.convert(answer.state, StreamState)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the snapshot until its end. Raises LogUnavailable if it breaks off."""
        while True:
            try:
                async with asyncio.timeout(CHUNK_TIMEOUT_S):
                    message = await self._arrived.get()
            except TimeoutError:
                raise LogUnavailable(f"the snapshot of {self._name} broke off") from None
            if not message.data:
                status = (message.headers or {}).get(_STATUS_HEADER, "")
                if status and not status.startswith("204"):
                    raise LogUnavailable(f"the snapshot of {self._name} failed: {status}")
                return
            yield message.data
            if message.reply:
                await self._connection.send(message.reply, b"")

    async def close(self) -> None:
        """Take no more of it."""
        await self._connection.forget(self._subscription)


class StreamRestore:
    """A stream that is being filled from a snapshot; it exists once `finish` has returned."""

    def __init__(self, jetstream: JetStream, name: str, subject: str) -> None:
        self._jetstream = jetstream
        self._name = name
        self._subject = subject

    async def write(self, data: bytes) -> None:
        """Send the next bytes. Raises LogUnavailable."""
        for at in range(0, len(data), CHUNK_BYTES):
            await self._send(data[at : at + CHUNK_BYTES])

    async def finish(self) -> StreamState:
        """Have the server make the stream; return what it holds. Raises LogUnavailable."""
        return (await self._send(b"")).state

    async def _send(self, data: bytes) -> StreamAnswer:
        try:
            message = await self._jetstream.connection.call(self._subject, data, timeout_s=CHUNK_TIMEOUT_S)
            # Parts but the last are answered by an empty message.
            answer = msgspec.json.decode(message.data or b"{}", type=StreamAnswer)
        except (BusUnavailable, msgspec.MsgspecError) as error:
            raise LogUnavailable(f"stream {self._name} cannot be restored: {error}") from None
        if answer.error is not None:
            raise LogUnavailable(f"stream {self._name} cannot be restored: {answer.error.description}")
        return answer


class StreamSnapshots:
    """Snapshots of the streams of one server or cluster. The caller keeps and closes the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jetstream = JetStream(connection, attempt_timeout_s=ASK_PATIENCE_S)

    async def names(self) -> list[str]:
        """Return the names of all streams. Raises LogUnavailable."""
        found: list[str] = []
        while len(found) < STREAMS_MAX:
            try:
                answer = await self._jetstream.ask(
                    "STREAM.NAMES", {"offset": len(found)}, _NamesAnswer, patience_s=ASK_PATIENCE_S
                )
            except (JetStreamRefused, BusUnavailable) as error:
                raise LogUnavailable(f"the streams cannot be listed: {error}") from error
            found += answer.streams or []
            if not answer.streams or len(found) >= answer.total:
                break
        return found

    async def state(self, name: str) -> StreamState | None:
        """Return what a stream holds now; None if there is none. Raises LogUnavailable."""
        try:
            answer = await self._jetstream.ask(
                f"STREAM.INFO.{name}", {}, StreamAnswer, patience_s=ASK_PATIENCE_S
            )
        except JetStreamRefused as refusal:
            if refusal.error_code == STREAM_NOT_FOUND:
                return None
            raise refusal.as_unavailable() from refusal
        except BusUnavailable as error:
            raise LogUnavailable(f"stream {name} does not tell its state: {error}") from error
        return answer.state

    async def open(self, name: str) -> Snapshot | None:
        """Return a snapshot of a stream that has begun, to be closed; None if there is no stream.

        Raises LogUnavailable.
        """
        snapshot = Snapshot(self._connection, name)
        try:
            await snapshot.begin(self._jetstream)
        except JetStreamRefused as refusal:
            if refusal.error_code == STREAM_NOT_FOUND:
                return None
            raise refusal.as_unavailable() from refusal
        except BusUnavailable as error:
            raise LogUnavailable(f"no snapshot of {name}: {error}") from error
        return snapshot

    async def restore(self, name: str, head: bytes) -> StreamRestore:
        """Begin to fill a stream that does not exist.

        Raises:
            InvalidInput: the head is none of a snapshot of this stream.
            Conflict: the stream exists.
            LogUnavailable: JetStream does not answer.
        """
        try:
            told = msgspec.json.decode(head, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise InvalidInput(f"the head of stream {name} cannot be read: {error}") from None
        config: Mapping[str, Any] = told.get("config") or {}
        if config.get("name") != name:
            raise InvalidInput(f"the head of stream {name} is that of {config.get('name')!r}")
        try:
            answer = await self._jetstream.exchange(
                f"$JS.API.STREAM.RESTORE.{name}", msgspec.json.encode(told), _RestoreAnswer
            )
        except JetStreamRefused as refusal:
            if refusal.error_code == _STREAM_EXISTS:
                raise Conflict(f"stream {name} exists already") from None
            raise refusal.as_unavailable() from refusal
        except BusUnavailable as error:
            raise LogUnavailable(f"stream {name} cannot be restored: {error}") from error
        if not answer.deliver_subject.startswith(_RESTORE_SUBJECT):
            raise LogUnavailable(f"JetStream names no place for stream {name}")
        return StreamRestore(self._jetstream, name, answer.deliver_subject)
