"""Calls to an S3-compatible endpoint: bounded in time, retried with backoff, with errors of this project.

Error messages contain the error code only: texts of the server or the client library may quote keys.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NoReturn, TypeVar

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from danube_common.errors import NotFound, StoreFull, StoreUnavailable

ATTEMPTS_MAX = 5
BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 2.0
CONNECT_TIMEOUT_S = 3.0
SILENCE_TIMEOUT_S = 20.0
ATTEMPT_TIMEOUT_S = 60.0
CONNECTIONS_MAX_DEFAULT = 16

_TRANSIENT_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "ConditionalRequestConflict", "BadDigest"})
_NO_ROOM_STATUS = 507
_NO_ROOM_CODES = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})

R = TypeVar("R")


class PreconditionFailed(Exception):
    """The key exists, or the upload that would create it does not exist any more."""


class PastTheEnd(Exception):
    """The range begins behind the object's last byte."""


class S3Link:
    """A client of one endpoint. Created by `connect`; `close` must be called."""

    def __init__(self, client: Any, exits: AsyncExitStack, attempts_max: int) -> None:
        self._client = client
        self._exits = exits
        self._attempts_max = attempts_max
        self._closed = False

    @classmethod
    async def connect(
        cls, *, endpoint_url: str | None, region: str | None, attempts_max: int, connections_max: int
    ) -> S3Link:
        """Return a client. Nothing is sent yet.

        Credentials come from environment, profile, container or instance, in this order. Raises
        StoreUnavailable if the settings are invalid.
        """
        # The import takes half a second, so only processes that use S3 do it.
        from aiobotocore.config import AioConfig  # noqa: PLC0415
        from aiobotocore.session import get_session  # noqa: PLC0415

        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=SILENCE_TIMEOUT_S,
            max_pool_connections=connections_max,
            retries={"total_max_attempts": 1},
            # Content-MD5, which every S3-compatible server supports, is used instead.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        )
        exits = AsyncExitStack()
        try:
            client = await exits.enter_async_context(
                get_session().create_client(
                    "s3", endpoint_url=endpoint_url, region_name=region, config=config
                )
            )
        except (BotoCoreError, ValueError) as error:
            raise StoreUnavailable(f"S3 cannot be used: {type(error).__name__}") from None
        return cls(client, exits, attempts_max)

    async def call(
        self, operation: str, *, attempts_max: int | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Call one operation of the client, e.g. ``head_object``.

        Raises:
            PreconditionFailed: status 412, or the multipart upload does not exist.
            NotFound: there is no such object.
            StoreFull: the server has no space.
            StoreUnavailable: ``attempts_max`` attempts failed, or the error is permanent.
        """

        async def once() -> dict[str, Any]:
            answer: dict[str, Any] = await getattr(self._client, operation)(**arguments)
            return answer

        return await self._attempt(operation, once, attempts_max or self._attempts_max)

    async def get(self, **arguments: Any) -> tuple[dict[str, Any], bytes]:
        """Call ``get_object``; return its reply and body. Raises as `call`, or PastTheEnd."""

        async def once() -> tuple[dict[str, Any], bytes]:
            answer = await self._client.get_object(**arguments)
            async with answer["Body"] as body:
                content: bytes = await body.read()
            if len(content) != answer["ContentLength"]:
                raise IncompleteReadError(actual_bytes=len(content), expected_bytes=answer["ContentLength"])
            return answer, content

        return await self._attempt("get_object", once, self._attempts_max)

    async def close(self) -> None:
        """Close the connections. Later calls raise StoreUnavailable."""
        self._closed = True
        await self._exits.aclose()

    async def _attempt(self, operation: str, once: Callable[[], Awaitable[R]], attempts_max: int) -> R:
        backoff_s = BACKOFF_S_FIRST
        for attempt in range(1, attempts_max + 1):
            if self._closed:
                raise StoreUnavailable("the segment store is closed")
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    return await once()
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                code = error.response.get("Error", {}).get("Code", "")
                if not (status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES) or attempt == attempts_max:
                    _raise(operation, status, code)
            except (HTTPClientError, IncompleteReadError, aiohttp.ClientError, OSError) as error:
                # TimeoutError is an OSError.
                if attempt == attempts_max:
                    raise StoreUnavailable(f"S3 {operation}: {type(error).__name__}") from None
            except BotoCoreError as error:
                raise StoreUnavailable(f"S3 {operation}: {type(error).__name__}") from None
            # Full jitter: writers with the same fault must not retry together.
            await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311 - no secret
            backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
        raise AssertionError("the last attempt raises")


def _raise(operation: str, status: int, code: str) -> NoReturn:
    if status == 412 or code in {"PreconditionFailed", "NoSuchUpload"}:
        raise PreconditionFailed(code) from None
    if status == 416:
        raise PastTheEnd(code) from None
    if code in {"NoSuchKey", "404", "NotFound"}:
        raise NotFound("there is no such object") from None
    if status == _NO_ROOM_STATUS or code in _NO_ROOM_CODES:
        raise StoreFull(f"S3 {operation}: {status} {code}") from None
    raise StoreUnavailable(f"S3 {operation}: {status} {code}") from None
