"""The HTTP/2 servers of one listening socket: one takes connections, others may still end with theirs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import structlog
from h2corn import Config
from h2corn import Server as HttpServer

from danube_common.errors import InvalidInput

ENDING_MAX: Final = 8
"""Servers whose certificates were replaced and whose calls have not ended; at the bound no file is read."""
FILES_POLL_S: Final = 2.0
"""How soon a change of the certificates' files is seen."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.http")


class HttpServers:
    """Starts servers, replaces them when files change, and stops them.

    Args:
        app: the ASGI application.
        config: makes the configuration of a server.
        files: what the configuration has read by the library; a change of one replaces the server.
        stop_s_max: how long `stop` waits.
    """

    def __init__(
        self, app: object, config: Callable[[], Config], files: list[Path], stop_s_max: float
    ) -> None:
        self._app = app
        self._config = config
        self._files = files
        self._stop_s_max = stop_s_max
        self._serving: dict[asyncio.Task[None], HttpServer] = {}
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the first server. Raises InvalidInput for files that cannot be used."""
        seen = self._fingerprint()
        try:
            await self._start()
        except (OSError, ValueError) as error:
            if not self._files:
                raise
            raise InvalidInput(f"TLS cannot be used: {error}") from None
        if self._files:
            self._watching = asyncio.create_task(self._watch(seen), name="http certificates")

    async def stop(self) -> None:
        """End all servers once their calls have ended."""
        if self._watching is not None:
            self._watching.cancel()
        for server in self._serving.values():
            server.shutdown()
        if self._serving:
            await asyncio.wait(self._serving, timeout=self._stop_s_max)

    async def _start(self) -> None:
        server = HttpServer(cast("Any", self._app), self._config())
        task = asyncio.create_task(server.serve(), name="http server")
        try:
            await server.wait_started()
        except BaseException:
            server.shutdown()
            await asyncio.gather(task, return_exceptions=True)
            raise
        self._serving[task] = server
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._serving.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("http_server_failed", exc_info=error)

    async def _watch(self, seen: list[bytes]) -> None:
        """Replace the server whenever the content of the files has changed and can be used.

        Connections to the server before go on until their calls have ended; new calls use new connections.
        """
        while True:
            await asyncio.sleep(FILES_POLL_S)
            now = self._fingerprint()
            if now == seen or len(self._serving) > ENDING_MAX:
                continue
            seen, before = now, list(self._serving.values())
            try:
                await self._start()
            except (OSError, ValueError) as error:
                _log.error("tls_files_refused", error=str(error))
                continue
            for server in before:
                server.shutdown()
            _log.info("tls_files_read_again")

    def _fingerprint(self) -> list[bytes]:
        return [_digest(file) for file in self._files]


def _digest(file: Path) -> bytes:
    """Return a digest of the content; nothing if there is none, which the library tells better."""
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return b""
