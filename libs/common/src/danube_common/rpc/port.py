"""The port of the RPC server: request bytes in; bytes, a stream of bytes or a status out.

Nothing of the server library is visible here, so that a faster front can replace it without
touching a handler. Methods are registered by full name, ``/danube.ProducerService/SendMessage``.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Protocol

from danube_common.security.identity import Identity
from danube_common.security.roles import Permission
from danube_common.tracing.context import ATTRIBUTE, parse_context

ID_HEADER: Final = "x-request-id"
ID_CHARACTERS_MAX: Final = 64


class StatusCode(IntEnum):
    """gRPC status codes by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """Ends the call with a status.

    Attributes:
        code: the status code.
        message: one human sentence, sent as grpc-message.
        trailers: binary and text trailers, e.g. ``error-message-bin``.
    """

    def __init__(
        self, code: StatusCode, message: str, trailers: Mapping[str, str | bytes] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailers = dict(trailers or {})


class Caller(Protocol):
    """Who makes a call, and what they may do; there is one only while authentication is on."""

    @property
    def identity(self) -> Identity | None:
        """Who calls; None for methods that everybody may call."""

    def require(self, permission: Permission, topic: str, method: str = "") -> None:
        """Return if the caller may do it with the topic; the audit log names the method.

        A stream ends by itself once a permission that it has required is taken away.

        Raises:
            RpcError: PERMISSION_DENIED.
        """


@dataclass(slots=True)  # frozen would cost 0.5 us a call
class Call:
    """One RPC as a handler sees it."""

    method: str
    request: bytes  # empty for a bidirectional stream
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    peer: str = ""
    identity: str = ""
    """The subject of the client's certificate as RFC 4514 writes it; empty if it has none."""
    access: Caller | None = None
    """None while authentication is off: everything is allowed."""
    _id: str = field(default="", compare=False, repr=False)

    def ids(self) -> dict[str, str]:
        """Return ``call``: the caller's ``x-request-id`` or one made here; and ``trace_id`` if any."""
        if not self._id:
            given = self.metadata.get(ID_HEADER)
            usable = isinstance(given, str) and given.isprintable()
            self._id = str(given)[:ID_CHARACTERS_MAX] if usable and given else secrets.token_hex(4)
        trace = self.metadata.get(ATTRIBUTE)
        context = parse_context(trace) if isinstance(trace, str) else None
        return {"call": self._id} | ({} if context is None else {"trace_id": f"{context.trace_id:032x}"})

    def require(self, permission: Permission, topic: str) -> None:
        """See `Caller.require`. Methods that `danube_common.security.methods` marks BY_HANDLER call it."""
        if self.access is not None:
            self.access.require(permission, topic, self.method)


class Opened:
    """Yielded by a stream before its first message, so that the response headers are sent.

    Official Rust clients wait for the headers before they hand a stream to their user.
    """


OPENED: Final = Opened()


@dataclass(slots=True)
class Framed:
    """Yielded by a stream: messages back to back, each with its gRPC prefix, to be written as they are."""

    data: bytes


METHOD_CHARACTERS_MAX: Final = 100
"""A longer method name is cut in a message."""


def unknown_method(name: str) -> RpcError:
    """Return the status of a call to a method that the port does not have."""
    return RpcError(StatusCode.UNIMPLEMENTED, f"there is no method {name[:METHOD_CHARACTERS_MAX]} here")


UnaryHandler = Callable[[Call], Awaitable[bytes] | bytes]
"""Returns the response, or what gives it when it has waited; `answered` takes both."""
StreamHandler = Callable[[Call], AsyncIterator[bytes | list[bytes] | Framed | Opened]]
"""Yields messages; a list of them, or `Framed` ones, are written in one piece."""
BidiHandler = Callable[[Call, AsyncIterator[bytes]], AsyncIterator[bytes | list[bytes] | Framed | Opened]]
"""Takes the client's messages one by one and yields its own, in any order.

The second argument ends when the client has half-closed. It raises RpcError or LimitExceeded for a message
that is malformed or too large; a handler that lets it through ends the call with that status. Only as much is
received as the handler takes and HTTP/2's window of the stream allows. One reader at a time.
"""


async def answered(handler: UnaryHandler, call: Call) -> bytes:
    """Return a handler's response."""
    answer = handler(call)
    return answer if isinstance(answer, bytes) else await answer


@dataclass(slots=True)
class Methods:
    """The methods that a server answers, by full name. A name is of one kind: unary, stream or bidi.

    A handler of a stream, of the server or bidirectional, is an asynchronous generator; when the client goes
    away or the server stops, it is closed (``aclose``), so its ``finally`` runs. ``on_error`` turns any
    exception that is not an RpcError into one, the server's own refusals (LimitExceeded, Unavailable) too;
    what it does not know is INTERNAL. Faults that are no DanubeError are logged by the server. ``unknown``
    gives the status of a call whose name is not registered.
    """

    unary: dict[str, UnaryHandler] = field(default_factory=dict)
    stream: dict[str, StreamHandler] = field(default_factory=dict)
    bidi: dict[str, BidiHandler] = field(default_factory=dict)
    on_error: Callable[[Exception], RpcError | None] = lambda _error: None
    unknown: Callable[[str], RpcError] = unknown_method

    def has(self, name: str) -> bool:
        """Return whether a method is registered."""
        return name in self.unary or name in self.stream or name in self.bidi

    def services(self) -> list[str]:
        """Return the full names of the services that have a method here, in order."""
        names = (*self.unary, *self.stream, *self.bidi)
        return sorted({name.rpartition("/")[0].removeprefix("/") for name in names})
