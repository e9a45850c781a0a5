"""One JetStream stream: what the logs and the journals are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from nats.aio.msg import Msg

from danube_common.errors import BusUnavailable, LogUnavailable, NotFound, RequestTimeout
from danube_common.nats.connection import STATUS_HEADER, Connection
from danube_common.nats.jetstream import (
    NO_MESSAGE_FOUND,
    STREAM_CONFIG_DIFFERS,
    STREAM_NOT_FOUND,
    A,
    Answer,
    JetStream,
    JetStreamRefused,
    MessageAnswer,
    PublishAnswer,
    RetryDeadline,
    StoredMessage,
    StreamAnswer,
    milliseconds_of,
)

API_TIMEOUT_S = 5.0
# A server that starts again, or a cluster that elects, is waited for within this bound.
PATIENCE_S = 10.0
READ_TIMEOUT_S = 10.0
# Any server of a cluster may answer a read. One that stopped without a word is passed over the second time.
FIRST_READ_TIMEOUT_S = 2.5
READ_BYTES_MAX = 32 << 20

SEQUENCE_HEADER = "Nats-Sequence"
_PREVIOUS_SEQUENCE_HEADER = "Nats-Last-Sequence"
_PENDING_HEADER = "Nats-Num-Pending"
_STATUS_END_OF_BATCH = "204"
_STATUS_NO_MESSAGE = "404"
_STATUS_NO_RESPONDERS = "503"


@dataclass(frozen=True, slots=True)
class Extent:
    """What a stream holds: first = last + 1 when it is empty; times in ms since the epoch, 0 if empty."""

    first_sequence: int
    last_sequence: int
    stored_bytes: int
    first_stored_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one read, in order, without holes; ``complete``: none is left behind them."""

    messages: list[StoredMessage]
    complete: bool


class Stream:
    """One stream by name. Every method raises LogUnavailable when JetStream does not answer in time."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._jetstream = JetStream(connection, attempt_timeout_s=API_TIMEOUT_S)
        self._name = name

    async def ensure(self, config: Mapping[str, Any]) -> None:
        """Create the stream with ``config``; safe from several processes at once.

        An existing stream takes over what differs, except where its numbering starts.
        """
        wanted = {**config, "name": self._name}
        try:
            existing = await self._api("STREAM.INFO", StreamAnswer)
        except NotFound:
            try:
                await self._ask("STREAM.CREATE", Answer, wanted)
                return
            except JetStreamRefused as refusal:
                if refusal.error_code != STREAM_CONFIG_DIFFERS:
                    raise refusal.as_unavailable() from None
            existing = await self._api("STREAM.INFO", StreamAnswer)  # another process was first
        wanted["first_seq"] = existing.config.get("first_seq", 0)
        if any(existing.config.get(key, 0) != value for key, value in wanted.items()):
            await self._api("STREAM.UPDATE", Answer, wanted)

    async def extent(self) -> Extent:
        """Return what the stream holds now. Raises NotFound."""
        state = (await self._api("STREAM.INFO", StreamAnswer)).state
        first = max(state.first_seq, 1)
        empty = first > state.last_seq
        return Extent(first, state.last_seq, state.bytes, 0 if empty else milliseconds_of(state.first_ts))

    async def purge(self, *, below: int, subject: str = "") -> None:
        """Delete every message with a lower sequence; of ``subject`` only, if given. Raises NotFound."""
        await self._api("STREAM.PURGE", Answer, {"seq": below} | ({"filter": subject} if subject else {}))

    async def publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> tuple[int, bool]:
        """Store one message; return its sequence, and whether its id was stored before.

        Raises:
            BusUnavailable: no acknowledgement; the message may or may not be stored.
            JetStreamRefused: nothing was stored.
        """
        answer = await self._jetstream.exchange(
            subject, payload, PublishAnswer, headers=headers, timeout_s=timeout_s
        )
        return answer.seq, answer.duplicate

    async def last(self, subject: str) -> StoredMessage | None:
        """Return the subject's last message as the stream's leader has it, or None."""
        try:
            answer = await self._ask("STREAM.MSG.GET", MessageAnswer, {"last_by_subj": subject})
        except JetStreamRefused as refusal:
            if refusal.error_code == NO_MESSAGE_FOUND:
                return None
            raise refusal.as_unavailable() from refusal
        if answer.message is None:
            raise LogUnavailable(f"stream {self._name} answered without a message")
        return answer.stored()

    async def read(
        self,
        subject: str,
        from_sequence: int,
        *,
        messages_max: int,
        bytes_max: int,
        patience_s: float = PATIENCE_S,
    ) -> Batch:
        """Return the subject's messages from ``from_sequence`` on, as many as the bounds allow, at least one.

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

    async def _api(self, verb: str, answer: type[A], question: Mapping[str, Any] | None = None) -> A:
        """Ask as `_ask`; an error becomes NotFound for a missing stream, else LogUnavailable."""
        try:
            return await self._ask(verb, answer, question)
        except JetStreamRefused as refusal:
            if refusal.error_code == STREAM_NOT_FOUND:
                raise NotFound(f"there is no stream {self._name}") from None
            raise refusal.as_unavailable() from refusal

    async def _ask(self, verb: str, answer: type[A], question: Mapping[str, Any] | None = None) -> A:
        """Call JetStream's API for this stream; only for calls that may be repeated."""
        try:
            return await self._jetstream.ask(
                f"{verb}.{self._name}", question or {}, answer, patience_s=PATIENCE_S
            )
        except BusUnavailable as error:
            raise LogUnavailable(f"JetStream does not answer: {error}") from error


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
        self.messages.append(StoredMessage(int(headers[SEQUENCE_HEADER]), message.data, headers))
        # The closing status is an extra message: with the last one in hand it is not waited for.
        self.complete = headers.get(_PENDING_HEADER) == "0"
        return self.complete or len(self.messages) == self._messages_max
