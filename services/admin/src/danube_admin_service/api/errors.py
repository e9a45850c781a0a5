"""Maps errors to the statuses of the admin port.

Clients of the v0.2 contract know one code for every refused admin call, NOT_FOUND; what was wrong
stands in the message and, as a type, in the ``error-message-bin`` trailer.
"""

from __future__ import annotations

from typing import Final

import structlog

from danube_common.errors import (
    CorruptData,
    DanubeError,
    InvalidName,
    JournalFenced,
    LimitExceeded,
    Unavailable,
    shortened,
)
from danube_common.model.names import TopicName
from danube_common.rpc.port import RpcError, StatusCode
from danube_proto.danube_api_pb2 import (
    INVALID_TOPIC_NAME,
    SERVICE_NOT_READY,
    UNKNOWN_ERROR,
    ErrorMessage,
    ErrorType,
)

ERROR_TRAILER: Final = "error-message-bin"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


def failure(
    message: str, error_type: ErrorType = UNKNOWN_ERROR, *, code: StatusCode = StatusCode.NOT_FOUND
) -> RpcError:
    """Return a status with its ErrorMessage trailer. A long message is shortened."""
    text = shortened(message)
    trailer = ErrorMessage(error_type=error_type, error_message=text).SerializeToString()
    return RpcError(code, text, {ERROR_TRAILER: trailer})


def status_of(error: Exception) -> RpcError:
    """Return the status for what a handler raised. An unexpected error is logged and becomes INTERNAL."""
    match error:
        case RpcError():
            return error
        case Unavailable():
            return failure(str(error), SERVICE_NOT_READY, code=StatusCode.UNAVAILABLE)
        case LimitExceeded():  # the server's own bound on calls; no v0.2 call has another
            return failure(str(error), SERVICE_NOT_READY, code=StatusCode.RESOURCE_EXHAUSTED)
        case CorruptData() | JournalFenced():
            pass  # what the platform itself wrote cannot be read: not the caller's doing
        case DanubeError():
            return failure(str(error))
    _log.error("admin_call_failed", exc_info=error)
    return failure("internal error", code=StatusCode.INTERNAL)


def topic_name(text: str, *, code: StatusCode = StatusCode.NOT_FOUND) -> TopicName:
    """Parse the topic name of a request; raises RpcError with ``code`` and type INVALID_TOPIC_NAME."""
    try:
        return TopicName.parse(text)
    except InvalidName as error:
        raise failure(str(error), INVALID_TOPIC_NAME, code=code) from None
