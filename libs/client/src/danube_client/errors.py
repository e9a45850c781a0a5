"""Every error the client raises on purpose.

ClientError
├── InvalidAddress           an address that is no ``http://host:port``
├── Closed                   the client, producer or consumer was closed
└── CallError                a call ended with another status than OK
    ├── Unreachable          nobody answered, or not in time; worth repeating
    ├── NotReady             the platform asks to try again; worth repeating
    ├── UnknownClient        the platform does not know the producer's or consumer's id (any more)
    ├── InvalidRequest
    │   └── InvalidTopicName
    ├── TopicNotFound
    ├── SubscriptionNotFound
    ├── ProducerExists
    ├── Denied
    │   └── SubscribeDenied
    └── LimitReached         a rate, a size or a number of clients
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc.aio import AioRpcError

from danube_proto.danube_api_pb2 import ErrorMessage, ErrorType

ERROR_TRAILER = "error-message-bin"


class ClientError(Exception):
    """Base of every error raised on purpose."""


class InvalidAddress(ClientError, ValueError):
    """An address that is no ``http://host:port``."""


class Closed(ClientError):
    """The client, producer or consumer was closed."""


class CallError(ClientError):
    """A call ended with another status than OK.

    Attributes:
        code: the gRPC status code's name, e.g. ``NOT_FOUND``.
        message: the server's sentence.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Unreachable(CallError):
    """Nobody answered, or not in time. Whether the call took effect is not known."""


class NotReady(CallError):
    """The platform asks to look up and try again."""


class UnknownClient(CallError):
    """The platform does not know the producer's or consumer's id."""


class InvalidRequest(CallError):
    """The request breaks a rule; nothing was changed."""


class InvalidTopicName(InvalidRequest):
    """A topic is named ``/namespace/topic``, each of letters, digits, ``_`` and ``-``."""


class TopicNotFound(CallError):
    """There is no such topic."""


class SubscriptionNotFound(CallError):
    """There is no such subscription."""


class ProducerExists(CallError):
    """Another producer has the place."""


class Denied(CallError):
    """Legal in itself, but not in the present state or not for this client."""


class SubscribeDenied(Denied):
    """The subscription takes no such consumer now."""


class LimitReached(CallError):
    """A policy's limit: a rate, a size or a number of clients."""


_BY_TYPE: dict[int, type[CallError]] = {
    ErrorType.INVALID_TOPIC_NAME: InvalidTopicName,
    ErrorType.TOPIC_NOT_FOUND: TopicNotFound,
    ErrorType.SERVICE_NOT_READY: NotReady,
    ErrorType.PRODUCER_ALREADY_EXISTS: ProducerExists,
    ErrorType.SUBSCRIBE_PERMISSION_DENIED: SubscribeDenied,
    ErrorType.SUBSCRIPTION_NOT_FOUND: SubscriptionNotFound,
}

_BY_CODE: dict[StatusCode, type[CallError]] = {
    StatusCode.DEADLINE_EXCEEDED: Unreachable,
    StatusCode.NOT_FOUND: UnknownClient,
    StatusCode.INVALID_ARGUMENT: InvalidRequest,
    StatusCode.ALREADY_EXISTS: ProducerExists,
    StatusCode.PERMISSION_DENIED: Denied,
    StatusCode.RESOURCE_EXHAUSTED: LimitReached,
}

# After these the producer or consumer is set up anew and the call repeated.
RECOVERABLE = (Unreachable, NotReady, UnknownClient)
# After these another address may do better: nobody is there, or it is shutting down.
ELSEWHERE = (Unreachable, NotReady)


def from_status(error: AioRpcError, address: str) -> CallError:
    """The error for a failed call to ``address``: by the ErrorMessage that is attached, else by the code."""
    code = error.code()
    details = error.details() or code.name
    attached = _attached(error)
    # A server that closes the connection ends what it has not looked at as cancelled; we never cancel calls
    # whose outcome we look at.
    if attached is None and code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED):
        return Unreachable(code.name, f"{address} does not answer: {details}")
    kind = _BY_TYPE.get(attached.error_type) if attached is not None else None
    if attached is not None and attached.error_message:
        details = attached.error_message
    return (kind or _BY_CODE.get(code, CallError))(code.name, details)


def _attached(error: AioRpcError) -> ErrorMessage | None:
    trailers = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailers:
        if key == ERROR_TRAILER and isinstance(value, bytes):
            try:
                return ErrorMessage.FromString(value)
            except DecodeError:
                return None
    return None
