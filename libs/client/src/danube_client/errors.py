"""Errors that the client raises.

ClientError
├── InvalidAddress           an address that is no ``http(s)://host:port``
├── Closed                   the client, producer or consumer was closed
├── MessagesLost             messages were deleted before they were acknowledged, or dropped
├── SendTimeout              a message was not stored in time; it may be stored yet
├── Unsupported              the platform has no native streaming, which this needs
└── CallError                a call ended with a status other than OK
    ├── Unreachable          no answer, or not in time; retried
    ├── NotReady             the platform asks to try again; retried
    ├── UnknownClient        the platform does not know the producer's or consumer's id (any more)
    ├── InvalidRequest
    │   └── InvalidTopicName
    ├── TopicNotFound
    │   └── TopicDeleted     it was deleted while the producer or consumer was open
    ├── SubscriptionNotFound
    ├── ProducerExists
    ├── Denied
    │   └── SubscribeDenied
    └── LimitReached         a rate, a size or a number of clients
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self, cast

from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc.aio import AioRpcError

from danube_proto.danube_api_pb2 import ErrorMessage, ErrorType

ERROR_TRAILER = "error-message-bin"
NO_CONNECTION = ("failed to connect", "DNS resolution failed")
"""How gRPC's own explanations begin, which go on with addresses and system calls."""
NOT_GRPC = "Received http2 header with status"
"""How gRPC tells of an answer of HTTP/2 that is none of gRPC, as the port for health and metrics gives it."""


class ClientError(Exception):
    """Base of every error that the client raises."""


class InvalidAddress(ClientError, ValueError):
    """An address is not ``http://host:port``, or not ``https://host:port`` although TLS is asked for."""


class Closed(ClientError):
    """The client, producer or consumer was closed."""


class MessagesLost(ClientError):
    """Messages were deleted before the subscription acknowledged them, or dropped by a non-reliable topic.

    Attributes:
        count: how many, at least, since a consumer of the subscription was told last.
    """

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message)
        self.count = count


class SendTimeout(ClientError, TimeoutError):
    """A message was not stored within ``send_timeout_s``. It may have been stored, or be stored yet."""


class Unsupported(ClientError):
    """The platform has no native streaming, which this needs: it speaks v0.2 only."""

    @classmethod
    def by(cls, address: str, what: str, why: str = "") -> Self:
        """Return the error for something that the platform at ``address`` cannot do, with its explanation."""
        text = f"{address} has no native streaming (danube.stream.v1), which is needed for {what}"
        return cls(f"{text}: {why}" if why else text)


class CallError(ClientError):
    """A call ended with a status other than OK.

    Attributes:
        code: the gRPC status code's name, e.g. ``NOT_FOUND``.
        message: the server's explanation.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def unimplemented(self) -> bool:
        """Whether the platform lacks the call: it is older, or speaks v0.2 only."""
        return self.code == "UNIMPLEMENTED"


class Unreachable(CallError):
    """No gateway answered in time. The call may or may not have taken effect."""


class NotReady(CallError):
    """The platform asks the client to look up the topic and try again."""


class UnknownClient(CallError):
    """The platform does not know the producer's or consumer's id."""


class InvalidRequest(CallError):
    """The request is invalid, or does not fit the topic that exists; nothing was changed."""


class InvalidTopicName(InvalidRequest):
    """The topic's name is not ``/namespace/topic`` with letters, digits, ``_`` and ``-`` in both parts."""


class TopicNotFound(CallError):
    """The topic does not exist."""


class TopicDeleted(TopicNotFound):
    """The topic of an open producer or consumer was deleted; it may have been created again since."""

    @classmethod
    def gone(cls, topic: str) -> Self:
        """Return the error for a topic that does not exist any more."""
        return cls("NOT_FOUND", f"topic {topic} was deleted")

    @classmethod
    def made_again(cls, topic: str) -> Self:
        """Return the error for a topic whose name another topic has now."""
        return cls(
            "NOT_FOUND", f"topic {topic} was deleted; the topic of this name is another one, made since"
        )


class SubscriptionNotFound(CallError):
    """The subscription does not exist."""


class ProducerExists(CallError):
    """A producer of this name, or an exclusive producer, exists already."""


class Denied(CallError):
    """The request is valid, but the present state or the client's rights do not allow it."""


class SubscribeDenied(Denied):
    """The subscription accepts no further consumer of this kind now."""


class LimitReached(CallError):
    """A policy's limit is reached: a rate, a message size or a number of clients."""


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
    StatusCode.FAILED_PRECONDITION: InvalidRequest,
    StatusCode.ALREADY_EXISTS: ProducerExists,
    StatusCode.PERMISSION_DENIED: Denied,
    StatusCode.RESOURCE_EXHAUSTED: LimitReached,
}

# After these the client creates the producer or consumer again and repeats the call.
RECOVERABLE = (Unreachable, NotReady, UnknownClient)
# After these the client tries another address: the gateway is gone or shutting down.
ELSEWHERE = (Unreachable, NotReady)


def unreachable(address: str) -> str:
    """Return why there is no connection, as far as that can be told."""
    secure = address.startswith("https://")
    why = ": nothing answers, it does not speak TLS, or one of the two certificates is not trusted"
    return f"{address} cannot be reached{why if secure else ''}"


def from_status(error: AioRpcError, address: str, missing: type[CallError] = UnknownClient) -> CallError:
    """Return the error for a failed call: by its attached ErrorMessage, else by its status code.

    Args:
        error: as gRPC raised it.
        address: of the gateway.
        missing: what NOT_FOUND means.
    """
    code = error.code()
    details = error.details() or code.name
    attached = _attached(error)
    # A server that closes its connection ends unread calls as CANCELLED. The client never awaits a call
    # that it has cancelled itself.
    if attached is None and code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED):
        if details.startswith(NO_CONNECTION):
            return Unreachable(code.name, unreachable(address))
        return Unreachable(code.name, f"{address} does not answer: {details}")
    if attached is None and code is StatusCode.DEADLINE_EXCEEDED:
        return Unreachable(code.name, f"{address} does not answer in time")
    if attached is None and details.startswith(NOT_GRPC):
        said = f"{address} is not the port of a gateway: what answers there does not speak gRPC ({details})"
        return CallError(code.name, said)
    kind = _BY_TYPE.get(attached.error_type) if attached is not None else None
    if attached is not None and attached.error_message:
        details = attached.error_message
    if kind is None and code is StatusCode.NOT_FOUND:
        kind = missing
    return (kind or _BY_CODE.get(code, CallError))(code.name, details)


def from_code(number: int, message: str) -> CallError:
    """Return the error for a gRPC status code that came inside of an answer."""
    code = next((code for code in StatusCode if code.value[0] == number), StatusCode.UNKNOWN)
    if code is StatusCode.UNAVAILABLE:
        return NotReady(code.name, message)
    if code is StatusCode.NOT_FOUND:
        return TopicNotFound(code.name, message)
    return _BY_CODE.get(code, CallError)(code.name, message)


def _attached(error: AioRpcError) -> ErrorMessage | None:
    trailers = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailers:
        if key == ERROR_TRAILER and isinstance(value, bytes):
            try:
                return ErrorMessage.FromString(value)
            except DecodeError:
                return None
    return None
