"""Requests and replies on the bus: one codec, one client and one server for every protocol.

A protocol is a union of request types, each tagged, which say what replies to them. An error travels as an
`ErrorReply` and is raised again by the client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import reduce
from operator import or_
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args

import msgspec
import structlog

from danube_common.bus.port import Bus, RequestHandler
from danube_common.errors import (
    UNDECODABLE,
    AlreadyExists,
    CorruptData,
    DanubeError,
    InvalidInput,
    JournalFenced,
    LimitExceeded,
    NotFound,
    Refused,
    Unavailable,
    shortened,
)
from danube_common.tracing.current import current_span

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


R = TypeVar("R", bound=msgspec.Struct)


class Request(msgspec.Struct, Generic[R], frozen=True):
    """A request whose reply is an ``R``: `class FindTopic(Request[Done], tag="find-topic", frozen=True)`.

    Attributes:
        reply: the class ``R``.
    """

    reply: ClassVar[type[msgspec.Struct]]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        (cls.reply,) = get_args(cls.__orig_bases__[0])  # type: ignore[attr-defined]


class Done(msgspec.Struct, tag="done", frozen=True):
    """The request was carried out; there is nothing else to say."""


class Reason(StrEnum):
    """The class of error that an `ErrorReply` stands for."""

    NOT_FOUND = "not-found"
    ALREADY_EXISTS = "already-exists"
    REFUSED = "refused"
    LIMIT = "limit"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"


class ErrorReply(msgspec.Struct, tag="refusal", frozen=True):
    """The request failed. ``limit`` names the exceeded limit if ``reason`` is LIMIT."""

    reason: Reason
    message: str
    limit: str = ""


_REASONS: tuple[tuple[type[DanubeError], Reason], ...] = (
    (NotFound, Reason.NOT_FOUND),
    (AlreadyExists, Reason.ALREADY_EXISTS),
    (LimitExceeded, Reason.LIMIT),
    (Refused, Reason.REFUSED),
    (InvalidInput, Reason.INVALID),
    (Unavailable, Reason.UNAVAILABLE),
    (JournalFenced, Reason.UNAVAILABLE),
)
_ERRORS: dict[Reason, type[DanubeError]] = {
    reason: error for error, reason in _REASONS if error is not JournalFenced
}


def error_reply(error: DanubeError) -> ErrorReply:
    """Return the reply for an error. Raises the error itself if no reason stands for its class."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            limit = error.limit if isinstance(error, LimitExceeded) else ""
            return ErrorReply(reason, shortened(str(error)), limit)
    raise error


def error_of(reply: ErrorReply) -> DanubeError:
    """Return the error that a reply stands for."""
    if reply.reason is Reason.LIMIT:
        return LimitExceeded(reply.limit, reply.message)
    return _ERRORS[reply.reason](reply.message)


Q = TypeVar("Q")


class Protocol(Generic[Q]):
    """The requests ``Q`` that a kind of server takes, and their replies.

    Requests are absolute (a set, a total, a position), so a client may repeat them.

    Args:
        server: what answers, for error messages.
        requests: the union ``Q``, each a `Request`.

    Attributes:
        replies: the union of the replies, without `ErrorReply`.
    """

    def __init__(self, server: str, requests: Any) -> None:
        self._server = server
        self._requests: msgspec.msgpack.Decoder[Q] = msgspec.msgpack.Decoder(requests)
        self.replies: Any = reduce(or_, (request.reply for request in get_args(requests)))
        self._replies: msgspec.msgpack.Decoder[msgspec.Struct] = msgspec.msgpack.Decoder(
            self.replies | ErrorReply
        )
        self.encode = msgspec.msgpack.Encoder().encode
        """Encodes a request or a reply."""

    def decode_request(self, data: bytes) -> Q:
        """Decode a request; raises CorruptData."""
        try:
            return self._requests.decode(data)
        except UNDECODABLE as error:
            raise CorruptData(f"not a request that {self._server} of this version knows: {error}") from None

    def decode_reply(self, data: bytes) -> msgspec.Struct:
        """Decode a reply; raises CorruptData."""
        try:
            return self._replies.decode(data)
        except UNDECODABLE as error:
            raise CorruptData(f"not a reply of {self._server} that this version knows: {error}") from None

    async def ask(self, bus: Bus, subject: str, request: Request[R], *, timeout_s: float) -> R:
        """Send a request once and return its reply.

        Raises:
            DanubeError: the error that the server replied with.
            BusUnavailable: no reply came within ``timeout_s``.
            CorruptData: the reply is of another type, or cannot be decoded.
        """
        answer = self.decode_reply(await bus.request(subject, self.encode(request), timeout_s=timeout_s))
        if isinstance(answer, ErrorReply):
            raise error_of(answer)
        if not isinstance(answer, request.reply):
            raise CorruptData(f"{self._server} answered {type(answer).__name__} to {type(request).__name__}")
        return cast("R", answer)

    def handler(self, answer: Callable[[Q], Awaitable[msgspec.Struct | bytes]]) -> RequestHandler:
        """Return what `Bus.serve` takes: every DanubeError of ``answer`` becomes an `ErrorReply`.

        ``answer`` may return a reply that is encoded already.
        """

        async def handle(data: bytes) -> bytes:
            try:
                request = self.decode_request(data)
                if (span := current_span()) is not None:
                    span.name = type(request).__name__
                reply = await answer(request)
                return reply if isinstance(reply, bytes) else self.encode(reply)
            except DanubeError as error:
                if isinstance(error, CorruptData):
                    _log.warning("bad_request", server=self._server, error=str(error))
                return self.encode(error_reply(error))

        return handle
