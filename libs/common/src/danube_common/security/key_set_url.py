"""A JSON Web Key Set that an issuer publishes: fetched, kept, and asked for again."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp
import structlog

from danube_common.errors import InvalidInput
from danube_common.security.token_keys import KEYS_BYTES_MAX, TokenKey, key_set

FETCH_S_MAX: Final = 5.0
FRESH_S: Final = 300.0
"""The set is asked for again after so long,"""
STALE_S_MAX: Final = 86_400.0
"""and kept for so long while nobody answers."""
ASK_AGAIN_S: Final = 10.0
"""Tokens that no key accepts make it be asked for again at most so often."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.security")


class KeySetUrl:
    """The keys behind a URL.

    Attributes:
        keys: of the last answer that could be used.
    """

    def __init__(self, url: str) -> None:
        self.keys: list[TokenKey] = []
        self._url = url
        self._asked_at = self._answered_at = -STALE_S_MAX
        self._lock = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    def is_old(self) -> bool:
        """Return whether it is time to ask again."""
        now = time.monotonic()
        return now - self._answered_at >= FRESH_S and now - self._asked_at >= ASK_AGAIN_S

    def may_ask(self) -> bool:
        """Return whether a token that no key accepts may make it be asked for again."""
        return time.monotonic() - self._asked_at >= ASK_AGAIN_S

    async def refresh(self) -> None:
        """Ask for the set. What fails is logged, and leaves the keys as they are."""
        asked_for = time.monotonic()
        async with self._lock:
            if self._asked_at >= asked_for:
                return  # another call has asked meanwhile
            self._asked_at = time.monotonic()
            try:
                self.keys = key_set(await asyncio.wait_for(self._fetch(), FETCH_S_MAX))
                self._answered_at = time.monotonic()
            except (aiohttp.ClientError, TimeoutError, InvalidInput, OSError, ValueError) as error:
                _log.warning("key_set_not_fetched", error=f"{type(error).__name__}: {error}"[:200])
                if time.monotonic() - self._answered_at >= STALE_S_MAX:
                    self.keys = []

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()

    async def _fetch(self) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False, auto_decompress=False)
        async with self._session.get(
            self._url, allow_redirects=False, headers={"Accept-Encoding": "identity"}
        ) as response:
            if response.status != 200:
                raise InvalidInput(f"the answer has status {response.status}")
            data = b""
            async for chunk in response.content.iter_chunked(16_384):
                data += chunk
                if len(data) > KEYS_BYTES_MAX:
                    raise InvalidInput(f"the answer has more than {KEYS_BYTES_MAX} bytes")
            return data
