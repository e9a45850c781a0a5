"""Statuses of the current generation, and the pauses before them that keep its clients from hot loops."""

from __future__ import annotations

import asyncio
from typing import Final

from danube_common.errors import AlreadyExists, LimitExceeded, Refused
from danube_common.rpc.port import RpcError, StatusCode
from danube_gateway.dialects.errors import rpc_error, to_rpc_error
from danube_proto.danube_api_pb2 import ErrorType

PAUSE_S: Final = 1.0
"""After some refusals clients look up and create again at once, for ever; each round then takes so long."""
GONE_S: Final = 5.5
"""Clients ask for a consumer's health every 5 s. After the answer CLOSE they subscribe again when the stream
ends."""
PAUSED_MAX: Final = 1000
"""Calls that pause at one time; further ones are answered at once."""

_REPEATED: Final = frozenset(
    {
        StatusCode.ABORTED,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.NOT_FOUND,
        StatusCode.PERMISSION_DENIED,
    }
)
_TOO_LARGE: Final = frozenset({"max_message_size", "message_envelope_bytes"})


class Refusals:
    """Turns errors into statuses, after a pause where a client would repeat the call at once."""

    def __init__(self) -> None:
        self._paused = 0

    async def pause(self, duration_s: float) -> None:
        """Wait, unless too many wait already."""
        if self._paused >= PAUSED_MAX:
            return
        self._paused += 1
        try:
            await asyncio.sleep(duration_s)
        finally:
            self._paused -= 1

    async def of(self, error: Exception) -> Exception:
        """Return the status of a refused CreateProducer or Subscribe."""
        refusal = status_of(error)
        if isinstance(refusal, RpcError) and refusal.code in _REPEATED:
            await self.pause(PAUSE_S)
        return refusal


def status_of(error: Exception) -> Exception:
    """Return the status of an error. ALREADY_EXISTS is none of them: Python's client repeats it for ever."""
    match error:
        case RpcError():
            return error
        case AlreadyExists() | Refused():
            return rpc_error(StatusCode.FAILED_PRECONDITION, ErrorType.UNKNOWN_ERROR, str(error))
        case LimitExceeded() if error.limit in _TOO_LARGE:
            return rpc_error(StatusCode.INVALID_ARGUMENT, ErrorType.UNKNOWN_ERROR, str(error))
    return to_rpc_error(error) or error
