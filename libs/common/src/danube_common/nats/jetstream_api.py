"""JetStream's request API, as far as the metadata store needs it: JSON over NATS, with deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client

from danube_common.errors import DanubeError, InvalidInput, MetadataUnavailable

ATTEMPT_TIMEOUT_S: Final = 2.0
RETRY_PAUSE_S: Final = 0.1

MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"
TTL_HEADER: Final = "Nats-TTL"
EXPECTED_SEQUENCE_HEADER: Final = "Nats-Expected-Last-Subject-Sequence"
ROLLUP_HEADER: Final = "Nats-Rollup"
OPERATION_HEADER: Final = "KV-Operation"
MARKER_HEADER: Final = "Nats-Marker-Reason"

# https://github.com/nats-io/nats-server/blob/main/server/errors.json
NO_MESSAGE_FOUND: Final = 10037
STREAM_EXISTS_OTHERWISE: Final = 10058
WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})


class ApiRefusal(DanubeError):
    """JetStream answered with an error; ``code`` is its ``err_code``."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class Answer(msgspec.Struct):
    """What every answer may hold."""

    error: _Error | None = None


class StoredMessage(msgspec.Struct, frozen=True):
    """A message in the stream; ``hdrs`` as on the wire."""

    subject: str
    seq: int
    time: datetime
    data: bytes = b""
    hdrs: bytes = b""

    def headers(self) -> dict[str, str]:
        lines = self.hdrs.decode(errors="replace").split("\r\n")[1:]
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


class MessageAnswer(Answer):
    message: StoredMessage | None = None


class PublishAnswer(Answer):
    seq: int = 0
    duplicate: bool = False


class StreamState(msgspec.Struct):
    last_seq: int = 0
    subjects: dict[str, int] = {}


class StreamAnswer(Answer):
    """``ts`` is the server's clock; ``total`` counts the subjects that the filter matches."""

    config: dict[str, Any] = {}
    state: StreamState = msgspec.field(default_factory=StreamState)
    ts: datetime | None = None
    total: int = 0


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)


class JetStreamApi:
    """Requests on one connection, which stays the caller's.

    Attributes:
        answered: whether the last request got an answer.
    """

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.answered = True

    async def ask(self, call: str, question: Mapping[str, Any], answer: type[AnyAnswer]) -> AnyAnswer:
        """One API call, e.g. ``STREAM.INFO.KV_danube``, repeated until the caller's deadline.

        Only for calls that may be carried out twice. Without a deadline around it this never gives up.
        """
        while True:
            try:
                return await self.exchange(f"$JS.API.{call}", msgspec.json.encode(question), answer)
            except MetadataUnavailable:
                if self.connection.is_closed:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> PublishAnswer:
        """Store one message; repeated only while nothing can have reached a stream."""
        while True:
            try:
                return await self.exchange(subject, payload, PublishAnswer, headers)
            except _NotSent:
                if self.connection.is_closed:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)

    async def exchange(
        self,
        subject: str,
        payload: bytes,
        answer: type[AnyAnswer],
        headers: Mapping[str, str] | None = None,
    ) -> AnyAnswer:
        """One request, one answer.

        Raises:
            ApiRefusal: JetStream says no.
            MetadataUnavailable: no answer within ATTEMPT_TIMEOUT_S, or JetStream is not up to it now.
            InvalidInput: the message is larger than the server takes.
        """
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            message = await self.connection.request(
                subject,
                payload,
                timeout=ATTEMPT_TIMEOUT_S,
                headers=dict(headers) if headers else None,
            )
            # nats-py waits by asyncio.wait_for, which before Python 3.12 forgets a cancellation that
            # comes together with the answer.
            if task and task.cancelling() > cancels:
                raise asyncio.CancelledError
            decoded = msgspec.json.decode(message.data, type=answer)
        except (nats.errors.NoRespondersError, nats.errors.ConnectionReconnectingError) as error:
            self.answered = False
            raise _NotSent(f"{subject}: {error}") from error
        except nats.errors.MaxPayloadError as error:
            raise InvalidInput(f"{len(payload)} bytes are more than the NATS server takes") from error
        except (nats.errors.Error, OSError, TimeoutError, msgspec.MsgspecError) as error:
            self.answered = False
            raise MetadataUnavailable(f"{subject}: {error!r}") from error
        self.answered = True
        if decoded.error is not None:
            # 5xx: no leader, no quorum, shutting down, out of resources. The rest are answers.
            if decoded.error.code >= 500:
                raise MetadataUnavailable(f"{subject}: {decoded.error.description}")
            raise ApiRefusal(decoded.error.err_code, decoded.error.description)
        return decoded


class _NotSent(MetadataUnavailable):
    """The request cannot have been carried out."""
