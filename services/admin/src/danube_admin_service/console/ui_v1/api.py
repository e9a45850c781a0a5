"""Serves the JSON: who asks, from where, and how errors are told."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from danube_admin_service.console.access.visitor import Door, Visitor
from danube_admin_service.console.sources import Sources
from danube_admin_service.console.ui_v1.acting import ACTS
from danube_admin_service.console.ui_v1.reading import READS
from danube_common.errors import DanubeError, InvalidInput
from danube_common.rpc.port import RpcError, StatusCode

PREFIX: Final = "/ui/v1"
BEARER: Final = "bearer "
ALLOWED_FOR_S: Final = 600
STATUS: Final = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.DEADLINE_EXCEEDED: 504,
}
"""As the original maps them; all others are 502."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class Api:
    """Answers the user interface of the original.

    Args:
        origins: of pages elsewhere that may ask, as ``http://ui.example:3000``.
        cookie: the name of the cookie in which the console keeps a credential.
    """

    def __init__(self, door: Door, sources: Sources, origins: Collection[str], cookie: str) -> None:
        self._door = door
        self._sources = sources
        self._origins = frozenset(origins)
        self._cookie = cookie

    async def answer(self, request: Request) -> Response:
        """Answer a request of any method."""
        try:
            self._check_origin(request)
            if request.method == "OPTIONS":
                return self._allowed(request, Response(status_code=204))
            return self._allowed(request, await self._carry_out(request))
        except ClientDisconnect:
            return Response(status_code=400)
        except RpcError as error:
            return self._allowed(request, _refusal(error.code, error.message))
        except (InvalidInput, ValueError, TypeError) as error:
            return self._allowed(request, _refusal(StatusCode.INVALID_ARGUMENT, str(error)))
        except DanubeError as error:
            return self._allowed(request, _refusal(StatusCode.UNAVAILABLE, str(error)))
        except Exception as error:  # noqa: BLE001 - the boundary: everything becomes an answer
            _log.error("ui_call_failed", path=request.url.path, exc_info=error)
            return self._allowed(request, _refusal(StatusCode.INTERNAL, "internal error: the log says which"))

    async def _carry_out(self, request: Request) -> Response:
        path = request.scope["route"].path.removeprefix(PREFIX)
        if request.method == "POST":
            body = await _body(request)
            return _json(await ACTS[path](await self._visitor(request), body))
        query = {**request.query_params, **request.path_params}
        if "topic" in query:
            query["topic"] = f"/{query['topic'].removeprefix('/')}"
        return _json(await READS[path](await self._visitor(request), self._sources, query))

    async def _visitor(self, request: Request) -> Visitor:
        """Return who asks: by a bearer token, or by the console's cookie. Raises RpcError."""
        header = request.headers.get("Authorization", "")
        is_bearer = header[: len(BEARER)].lower() == BEARER
        credential = header[len(BEARER) :].strip() if is_bearer else request.cookies.get(self._cookie, "")
        peer = request.client.host if request.client is not None else ""
        return await self._door.open(credential, peer)

    def _check_origin(self, request: Request) -> None:
        """Refuse what pages of other sites ask. Raises RpcError."""
        origin = request.headers.get("Origin")
        if origin is None or origin in self._origins:
            return
        if origin != f"{request.url.scheme}://{request.url.netloc}":
            message = f"pages of {origin[:100]} may not ask: see the setting console_origins"
            raise RpcError(StatusCode.PERMISSION_DENIED, message)

    def _allowed(self, request: Request, answer: Response) -> Response:
        """Let a page of an allowed origin read the answer."""
        answer.headers["Cache-Control"] = "no-store"
        answer.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin in self._origins and origin is not None:
            answer.headers["Access-Control-Allow-Origin"] = origin
            answer.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
            answer.headers["Access-Control-Allow-Methods"] = "GET, POST"
            answer.headers["Access-Control-Max-Age"] = str(ALLOWED_FOR_S)
        return answer


async def _body(request: Request) -> dict[str, Any]:
    """Read a JSON object. Raises InvalidInput.

    Another site's form cannot send this type, and its script only after the browser has asked (`OPTIONS`).
    """
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        raise InvalidInput("the body is JSON: send Content-Type: application/json")
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidInput("the body is no JSON object")
    return body


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _refusal(code: StatusCode, message: str) -> Response:
    told = {"error": message, "code": code.name, "success": False, "message": message}
    return _json(told, STATUS.get(code, 502))
