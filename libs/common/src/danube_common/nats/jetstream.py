"""One JetStream stream, spoken to in the server's own terms; what the log and the journal are made of.

nats-py's JetStream context is left aside: it has no batched direct get, and its publish costs more than
the frame it carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from nats.aio.msg import Msg

from danube_common.errors import (
    BusUnavailable,
    DanubeError,
    LogFull,
    LogUnavailable,
    NotFound,
    RequestTimeout,
)
from danube_common.nats.connection import STATUS_HEADER, Connection

API_TIMEOUT_S = 5.0
# A server that starts again, or a cluster that elects, is waited for within this bound.
PATIENCE_S = 10.0
RETRY_WAIT_S = 0.01
RETRY_WAIT_S_MAX = 0.25
READ_TIMEOUT_S = 10.0
# Any server of a cluster may answer a read. One that stopped without a word is passed over the second time.
FIRST_READ_TIMEOUT_S = 2.5
READ_BYTES_MAX = 32 << 20

MESSAGE_ID_HEADER = "Nats-Msg-Id"
SEQUENCE_HEADER = "Nats-Sequence"
EXPECTED_SUBJECT_SEQUENCE_HEADER = "Nats-Expected-Last-Subject-Sequence"
STORED_AT_HEADER = "Nats-Time-Stamp"
_PREVIOUS_SEQUENCE_HEADER = "Nats-Last-Sequence"
_PENDING_HEADER = "Nats-Num-Pending"

_STREAM_CONFIG_DIFFERS = 10058
_NO_MESSAGE_FOUND = 10037
_STREAM_NOT_FOUND = 10059
_STORE_FAILED = 10077
_NO_ROOM = frozenset({10023, 10028, 10047})
_SERVICE_UNAVAILABLE = 503
_STATUS_END_OF_BATCH = "204"
_STATUS_NO_MESSAGE = "404"
_STATUS_NO_RESPONDERS = "503"


class JetStreamRefused(DanubeError):
    """JetStream answered with an error.

    Attributes:
        code: the HTTP-like class of the error, e.g. 503.
        error_code: JetStream's own number, e.g. 10071.
        full: a size bound is reached.
    """

    def __init__(self, code: int, error_code: int, description: str) -> None:
        super().__init__(f"JetStream refused: {description} ({error_code})")
        self.code = code
        self.error_code = error_code
        self.full = error_code in _NO_ROOM or (error_code == _STORE_FAILED and "maximum" in description)

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed in a moment: a leader is missing, a queue is long."""
        return self.code == _SERVICE_UNAVAILABLE and not self.full

    def as_unavailable(self) -> LogUnavailable:
        """The same in the ports' terms."""
        return LogFull(str(self)) if self.full else LogUnavailable(str(self))


@dataclass(frozen=True, slots=True)
class Extent:
    """What a stream holds: first = last + 1 when it is empty; times in ms since the epoch, 0 if empty."""

    first_sequence: int
    last_sequence: int
    stored_bytes: int
    first_stored_ms: int


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message read back; ``message_id`` is empty if it was written without one."""

    sequence: int
    data: bytes
    message_id: str
    stored_ms: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one read, in order, without holes; ``complete`` when none is left behind them."""

    messages: list[StoredMessage]
    complete: bool


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PublishAck(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


class _State(msgspec.Struct):
    first_seq: int = 0
    last_seq: int = 0
    bytes: int = 0
    first_ts: str = ""


class _Message(msgspec.Struct):
    """As the API tells it: headers and content in base64."""

    seq: int
    data: bytes = b""
    hdrs: bytes = b""


class _ApiAnswer(msgspec.Struct):
    message: _Message | None = None
    state: _State | None = None
    config: dict[str, Any] | None = None
    error: _Error | None = None


_decode_ack = msgspec.json.Decoder(_PublishAck).decode
_decode_answer = msgspec.json.Decoder(_ApiAnswer).decode


class RetryDeadline:
    """Bounds how long something is tried again, with a wait that doubles up to a maximum."""

    def __init__(self, patience_s: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._deadline_s = self._clock() + patience_s
        self._wait_s = RETRY_WAIT_S

    @property
    def left_s(self) -> float:
        return self._deadline_s - self._clock()

    async def wait(self) -> bool:
        """Wait before the next attempt; False, at once, when there is no time for one."""
        if self.left_s <= self._wait_s:
            return False
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(2 * self._wait_s, RETRY_WAIT_S_MAX)
        return True


class Stream:
    """One stream by name. Every method raises LogUnavailable when JetStream does not answer in time."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    async def ensure(self, config: Mapping[str, Any]) -> None:
        """Make the stream exist with ``config``; safe from several processes at once.

        An existing stream takes over what differs, except where its numbering starts.
        """
        wanted = {**config, "name": self._name}
        try:
            existing = await self._api("STREAM.INFO")
        except NotFound:
            created = await self._ask("STREAM.CREATE", wanted)
            if created.error is None:
                return
            if created.error.err_code != _STREAM_CONFIG_DIFFERS:
                raise _refused(created.error).as_unavailable() from None
            existing = await self._api("STREAM.INFO")  # another process was first
        settings = existing.config or {}
        wanted["first_seq"] = settings.get("first_seq", 0)
        if any(settings.get(key, 0) != value for key, value in wanted.items()):
            await self._api("STREAM.UPDATE", wanted)

    async def extent(self) -> Extent:
        """What the stream holds now. Raises NotFound."""
        state = (await self._api("STREAM.INFO")).state or _State()
        first = max(state.first_seq, 1)
        empty = first > state.last_seq
        return Extent(first, state.last_seq, state.bytes, 0 if empty else _milliseconds(state.first_ts))

    async def purge(self, *, below: int, subject: str = "") -> None:
        """Delete every message with a lower sequence; of ``subject`` only, if given. Raises NotFound."""
        selection: dict[str, Any] = {"seq": below}
        if subject:
            selection["filter"] = subject
        await self._api("STREAM.PURGE", selection)

    async def publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> tuple[int, bool]:
        """Store one message: its sequence, and whether its id was stored before.

        Raises:
            BusUnavailable: no acknowledgement; it may or may not be stored.
            JetStreamRefused: nothing was stored.
        """
        answer = await self._connection.call(subject, payload, timeout_s=timeout_s, headers=headers)
        try:
            ack = _decode_ack(answer.data)
        except msgspec.DecodeError as error:
            raise BusUnavailable(
                f"no acknowledgement came from {subject} but {answer.data[:64]!r}"
            ) from error
        if ack.error is not None:
            raise _refused(ack.error)
        return ack.seq, ack.duplicate

    async def last(self, subject: str) -> StoredMessage | None:
        """The subject's last message, by the stream's leader: never one that was the last before."""
        answer = await self._ask("STREAM.MSG.GET", {"last_by_subj": subject})
        if answer.error is not None:
            if answer.error.err_code == _NO_MESSAGE_FOUND:
                return None
            raise _refused(answer.error).as_unavailable()
        if answer.message is None:
            raise LogUnavailable(f"stream {self._name} answered without a message")
        message_id = _header(answer.message.hdrs, MESSAGE_ID_HEADER)
        return StoredMessage(answer.message.seq, answer.message.data, message_id)

    async def read(
        self,
        subject: str,
        from_sequence: int,
        *,
        messages_max: int,
        bytes_max: int,
        patience_s: float = PATIENCE_S,
    ) -> Batch:
        """The subject's messages from ``from_sequence`` on, as many as the bounds allow, at least one.

        A stream that is not served is asked again until ``patience_s`` is over. In a cluster any replica
        answers, and one that is behind the leader takes what it has for everything: `bounds` and `last`
        come from the leader.
        """
        query = {
            "seq": max(from_sequence, 1),
            "next_by_subj": subject,
            "batch": messages_max,
            "max_bytes": max(1, min(bytes_max, READ_BYTES_MAX)),
        }
        return await self._read(query, messages_max=messages_max, patience_s=patience_s)

    async def _read(
        self, query: Mapping[str, Any], *, messages_max: int, patience_s: float = PATIENCE_S
    ) -> Batch:
        body = msgspec.json.encode(query)
        patience = RetryDeadline(patience_s)
        timeout_s = FIRST_READ_TIMEOUT_S
        while True:
            reading = _Reading(messages_max)
            try:
                await self._connection.collect(
                    f"$JS.API.DIRECT.GET.{self._name}", body, reading.take, timeout_s=timeout_s
                )
            except BusUnavailable as error:
                # What has arrived is sound by itself; the next read goes on behind it.
                if not reading.messages:
                    if isinstance(error, RequestTimeout) and timeout_s < READ_TIMEOUT_S:
                        timeout_s = READ_TIMEOUT_S
                        continue
                    raise LogUnavailable(str(error)) from error
            if not reading.unserved:
                break
            if not await patience.wait():
                raise LogUnavailable(f"stream {self._name} is not served")
        if not reading.messages and not reading.complete:
            raise LogUnavailable(f"stream {self._name} answered with status {reading.status}")
        return Batch(reading.messages, reading.complete)

    async def _api(self, verb: str, body: Mapping[str, Any] | None = None) -> _ApiAnswer:
        """`_ask`, with an error raised: NotFound for a missing stream, else LogUnavailable."""
        answer = await self._ask(verb, body)
        if answer.error is not None:
            if answer.error.err_code == _STREAM_NOT_FOUND:
                raise NotFound(f"there is no stream {self._name}")
            raise _refused(answer.error).as_unavailable()
        return answer

    async def _ask(self, verb: str, body: Mapping[str, Any] | None) -> _ApiAnswer:
        """Call JetStream's API for this stream; only for calls that may be repeated."""
        subject = f"$JS.API.{verb}.{self._name}"
        payload = b"" if body is None else msgspec.json.encode(body)
        patience = RetryDeadline(PATIENCE_S)
        while True:
            try:
                message = await self._connection.call(subject, payload, timeout_s=API_TIMEOUT_S)
                return _decode_answer(message.data)
            except BusUnavailable as error:
                if not await patience.wait():
                    raise LogUnavailable(f"JetStream does not answer: {error}") from error


def stored_ms_of(headers: Mapping[str, str]) -> int:
    """When the server stored the message with these headers, in ms since the epoch; 0 if they do not say."""
    text = headers.get(STORED_AT_HEADER, "")
    return _milliseconds(text) if text else 0


def _milliseconds(rfc3339: str) -> int:
    return round(datetime.fromisoformat(rfc3339).timestamp() * 1000)


def _header(headers: bytes, name: str) -> str:
    """One header of a message as the server stores them; empty if it is not there."""
    for line in headers.decode(errors="replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def _refused(error: _Error) -> JetStreamRefused:
    return JetStreamRefused(error.code, error.err_code, error.description)


class _Reading:
    """The fold of one batched direct get."""

    def __init__(self, messages_max: int) -> None:
        self.messages: list[StoredMessage] = []
        self.complete = False
        self.status = ""
        self._messages_max = messages_max

    @property
    def unserved(self) -> bool:
        return self.status == _STATUS_NO_RESPONDERS

    def take(self, message: Msg) -> bool:
        headers = message.headers or {}
        self.status = headers.get(STATUS_HEADER, "")
        if self.status:
            self.complete = self.status == _STATUS_NO_MESSAGE or (
                self.status == _STATUS_END_OF_BATCH and headers.get(_PENDING_HEADER) == "0"
            )
            return True
        previous = int(headers.get(_PREVIOUS_SEQUENCE_HEADER, 0))
        if self.messages and previous != self.messages[-1].sequence:
            return True  # a message in between did not reach us: the next read starts there
        self.messages.append(
            StoredMessage(
                int(headers[SEQUENCE_HEADER]),
                message.data,
                headers.get(MESSAGE_ID_HEADER, ""),
                stored_ms_of(headers),
            )
        )
        # The closing status is an extra message: with the last one in hand it is not waited for.
        self.complete = headers.get(_PENDING_HEADER) == "0"
        return self.complete or len(self.messages) == self._messages_max
