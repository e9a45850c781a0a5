"""Maps errors to the statuses of the admin port.

Clients of the v0.2 contract know one code for every refused admin call, NOT_FOUND; what was wrong
stands in the message and, as a type, in the ``error-message-bin`` trailer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from danube_common.errors import (
    AlreadyExists,
    Conflict,
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
from danube_common.rpc.port import RpcError, StatusCode
from danube_proto.danube_api_pb2 import SERVICE_NOT_READY, UNKNOWN_ERROR, ErrorMessage, ErrorType

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


@asynccontextmanager
async def precise_statuses(unknown: ErrorType = UNKNOWN_ERROR) -> AsyncIterator[None]:
    """Map errors to statuses for methods that no v0.2 client knows: each failure has its own code.

    ``unknown`` is the type in the trailer of NOT_FOUND.
    """
    try:
        yield
    except CorruptData:
        raise
    except NotFound as error:
        raise failure(str(error), unknown) from None
    except AlreadyExists as error:
        raise failure(str(error), code=StatusCode.ALREADY_EXISTS) from None
    except InvalidInput as error:
        raise failure(str(error), code=StatusCode.INVALID_ARGUMENT) from None
    except Refused as error:
        raise failure(str(error), code=StatusCode.FAILED_PRECONDITION) from None
    except LimitExceeded as error:
        raise failure(str(error), code=StatusCode.RESOURCE_EXHAUSTED) from None
    except Conflict as error:
        raise failure(str(error), code=StatusCode.ABORTED) from None
