"""Maps the platform's errors to a gRPC status and the ``error-message-bin`` trailer of v0.2."""

from __future__ import annotations

from danube_common.errors import (
    AlreadyExists,
    DanubeError,
    InvalidInput,
    InvalidName,
    LimitExceeded,
    NotConfigured,
    NotFound,
    PartitionsDiffer,
    Refused,
    Unavailable,
    shortened,
)
from danube_common.rpc.port import RpcError, StatusCode
from danube_gateway.dialects.generations import Generation
from danube_proto.danube_api_pb2 import ErrorMessage, ErrorType

TRAILER = "error-message-bin"

_STATUS: tuple[tuple[type[DanubeError], StatusCode, ErrorType], ...] = (
    (InvalidName, StatusCode.INVALID_ARGUMENT, ErrorType.INVALID_TOPIC_NAME),
    (InvalidInput, StatusCode.INVALID_ARGUMENT, ErrorType.UNKNOWN_ERROR),
    (NotFound, StatusCode.NOT_FOUND, ErrorType.UNKNOWN_ERROR),
    (AlreadyExists, StatusCode.ALREADY_EXISTS, ErrorType.PRODUCER_ALREADY_EXISTS),
    (LimitExceeded, StatusCode.RESOURCE_EXHAUSTED, ErrorType.UNKNOWN_ERROR),
    (NotConfigured, StatusCode.FAILED_PRECONDITION, ErrorType.UNKNOWN_ERROR),
    (PartitionsDiffer, StatusCode.FAILED_PRECONDITION, ErrorType.UNKNOWN_ERROR),
    (Refused, StatusCode.PERMISSION_DENIED, ErrorType.SUBSCRIBE_PERMISSION_DENIED),
    (Unavailable, StatusCode.UNAVAILABLE, ErrorType.SERVICE_NOT_READY),
)


def rpc_error(code: StatusCode, error_type: ErrorType, message: str) -> RpcError:
    """Return a status with its trailer. Only SERVICE_NOT_READY makes official clients try again."""
    message = shortened(message)
    detail = ErrorMessage(error_type=error_type, error_message=message)
    return RpcError(code, message, {TRAILER: detail.SerializeToString()})


def topic_not_found(topic: str, generation: Generation = Generation.V0_2) -> RpcError:
    """Return the status for a topic that does not exist, as clients of the generation know it."""
    code = StatusCode.NOT_FOUND if generation is Generation.CURRENT else StatusCode.INVALID_ARGUMENT
    return rpc_error(code, ErrorType.TOPIC_NOT_FOUND, f"topic {topic} does not exist")


def to_rpc_error(error: Exception) -> RpcError:
    """Return the status of an error. An error that is not a DanubeError becomes INTERNAL without details."""
    for kind, code, error_type in _STATUS:
        if isinstance(error, kind):
            return rpc_error(code, error_type, str(error))
    return rpc_error(StatusCode.INTERNAL, ErrorType.UNKNOWN_ERROR, "internal error")
