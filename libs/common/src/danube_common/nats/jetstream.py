"""JetStream in the server's own terms: its request API as JSON over NATS, with deadlines.

nats-py's JetStream context is not used: it has no batched direct get, and its publish costs more than the
frame that it carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from danube_common.errors import BusUnavailable, DanubeError, LogFull, LogUnavailable, NoResponders
from danube_common.nats.connection import Connection

RETRY_WAIT_S: Final = 0.01
RETRY_WAIT_S_MAX: Final = 0.25

MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"
EXPECTED_SEQUENCE_HEADER: Final = "Nats-Expected-Last-Subject-Sequence"
STORED_AT_HEADER: Final = "Nats-Time-Stamp"

# https://github.com/nats-io/nats-server/blob/main/server/errors.json
NO_MESSAGE_FOUND: Final = 10037
STREAM_CONFIG_DIFFERS: Final = 10058
STREAM_NOT_FOUND: Final = 10059
WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
_STORE_FAILED: Final = 10077
_NO_ROOM: Final = frozenset({10023, 10028, 10047})


class JetStreamRefused(DanubeError):
    """JetStream answered with an error.

    Attributes:
        code: the HTTP-like class of the error, e.g. 503.
        error_code: JetStream's own number, e.g. 10071.
        full: whether a size limit is reached.
    """

    def __init__(self, code: int, error_code: int, description: str) -> None:
        super().__init__(f"JetStream refused: {description} ({error_code})")
        self.code = code
        self.error_code = error_code
        self.full = error_code in _NO_ROOM or (error_code == _STORE_FAILED and "maximum" in description)

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed in a moment: there is no leader, or a queue is long."""
        return self.code >= 500 and not self.full

    def as_unavailable(self) -> LogUnavailable:
        """Return the error of the log's and the journal's port."""
        return LogFull(str(self)) if self.full else LogUnavailable(str(self))


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a stream; ``subject`` is empty if the read did not tell it."""

    sequence: int
    data: bytes
    headers: Mapping[str, str]
    subject: str = ""

    @property
    def message_id(self) -> str:
        """The id that the message was written with, or an empty text."""
        return self.headers.get(MESSAGE_ID_HEADER, "")

    @property
    def stored_ms(self) -> int:
        """When the server stored the message, in ms since the epoch; 0 if the read did not tell it."""
        return stored_ms_of(self.headers)


class ApiError(msgspec.Struct):
    """An error as the server tells it."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Answer(msgspec.Struct):
    """What every answer may hold."""

    error: ApiError | None = None


class PublishAnswer(Answer):
    """Where a message was stored, and whether its id was stored before."""

    seq: int = 0
    duplicate: bool = False


class _Message(msgspec.Struct):
    seq: int
    subject: str = ""
    time: str = ""
    data: bytes = b""
    hdrs: bytes = b""


class MessageAnswer(Answer):
    """A message that was asked for; None if there is none."""

    message: _Message | None = None

    def stored(self) -> StoredMessage | None:
        """Return the message."""
        if self.message is None:
            return None
        lines = self.message.hdrs.decode(errors="replace").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        headers = {name: value.strip() for name, _, value in pairs} | {STORED_AT_HEADER: self.message.time}
        return StoredMessage(self.message.seq, self.message.data, headers, self.message.subject)


class StreamState(msgspec.Struct):
    """What a stream holds; ``subjects`` counts messages by subject, if a filter was given."""

    first_seq: int = 0
    last_seq: int = 0
    bytes: int = 0
    first_ts: str = ""
    subjects: dict[str, int] = {}


class StreamAnswer(Answer):
    """A stream. ``ts`` is the server's clock; ``total`` counts the subjects that the filter matches."""

    config: dict[str, Any] = {}
    state: StreamState = msgspec.field(default_factory=StreamState)
    ts: datetime | None = None
    total: int = 0


A = TypeVar("A", bound=Answer)


class RetryDeadline:
    """Bounds how long a call is tried again, with a wait that doubles up to RETRY_WAIT_S_MAX."""

    def __init__(self, patience_s: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._deadline_s = self._clock() + patience_s
        self._wait_s = RETRY_WAIT_S

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self._deadline_s - self._clock()

    async def wait(self) -> bool:
        """Wait before the next attempt; return False at once when there is no time for one."""
        if self.left_s <= self._wait_s:
            return False
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(2 * self._wait_s, RETRY_WAIT_S_MAX)
        return True


class JetStream:
    """Requests to JetStream over one connection, which the caller keeps and closes.

    Attributes:
        answered: whether the last request got an answer.
    """

    def __init__(self, connection: Connection, *, attempt_timeout_s: float) -> None:
        self.connection = connection
        self.answered = True
        self._attempt_timeout_s = attempt_timeout_s

    async def ask(self, call: str, question: Mapping[str, Any], answer: type[A], *, patience_s: float) -> A:
        """Make an API call, e.g. ``STREAM.INFO.KV_danube``, and repeat it until ``patience_s`` is over.

        Only for calls that may be carried out twice.

        Raises:
            JetStreamRefused: JetStream answered with an error.
            BusUnavailable: there was no answer in time.
        """
        patience = RetryDeadline(patience_s)
        payload = msgspec.json.encode(question) if question else b""
        while True:
            try:
                return await self.exchange(f"$JS.API.{call}", payload, answer)
            except (BusUnavailable, JetStreamRefused) as error:
                passing = isinstance(error, BusUnavailable) or error.passing
                if not passing or self.connection.is_closed or not await patience.wait():
                    raise

    async def publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, patience_s: float
    ) -> PublishAnswer:
        """Store one message; repeated only while nothing can have reached the stream. Raises as `ask`."""
        patience = RetryDeadline(patience_s)
        while True:
            sent = self.connection.is_connected
            try:
                return await self.exchange(subject, payload, PublishAnswer, headers=headers)
            except BusUnavailable as error:
                unsent = not sent or isinstance(error, NoResponders)
                if not unsent or self.connection.is_closed or not await patience.wait():
                    raise

    async def exchange(
        self,
        subject: str,
        payload: bytes,
        answer: type[A],
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> A:
        """Send one request and return its answer. Raises as `ask`, and LimitExceeded for a large payload."""
        timeout_s = self._attempt_timeout_s if timeout_s is None else timeout_s
        try:
            message = await self.connection.call(subject, payload, timeout_s=timeout_s, headers=headers)
            decoded = msgspec.json.decode(message.data, type=answer)
        except BusUnavailable:
            self.answered = False
            raise
        except msgspec.MsgspecError as error:
            self.answered = False
            raise BusUnavailable(f"no answer came from {subject} but {message.data[:64]!r}") from error
        self.answered = True
        if (refusal := decoded.error) is not None:
            raise JetStreamRefused(refusal.code, refusal.err_code, refusal.description)
        return decoded


def stored_ms_of(headers: Mapping[str, str]) -> int:
    """Return when the server stored the message with these headers, in ms since the epoch, or 0."""
    text = headers.get(STORED_AT_HEADER, "")
    return milliseconds_of(text) if text else 0


def milliseconds_of(rfc3339: str) -> int:
    """Return a time in ms since the epoch."""
    return round(datetime.fromisoformat(rfc3339).timestamp() * 1000)
