"""Health, metrics and facts about the process over HTTP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from h2corn import Config, Receive, Scope, Send

from danube_common.runtime.address import bind, join_address, reachable_url, split_address
from danube_common.runtime.http_servers import HttpServers
from danube_common.runtime.metrics import Metrics
from danube_common.runtime.tls_config import TlsConfig

Check = Callable[[], str | None]
"""None when all is well, else what is wrong."""

App = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application: what a service serves beside health and metrics."""

CLOSE_S_MAX: Final = 1.0
CONNECTIONS_MAX: Final = 64
REQUESTS_MAX: Final = 64
HEADER_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 1024
APP_BODY_BYTES_MAX: Final = 1024 * 1024
"""Of a service that serves more than health and metrics."""
"""No request has one; a small one is read and forgotten."""
HEADER_S_MAX: Final = 5.0
KEEP_ALIVE_S: Final = 30.0
WRITE_S_MAX: Final = 10.0

_Answer = tuple[int, str, bytes]
"""Status, content type and body."""


class Health:
    """Named checks; a service is ready when each vital check reports no problem."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._vital: dict[str, bool] = {}

    def add_check(self, name: str, check: Check, *, vital: bool = True) -> None:
        """Call ``check`` for each readiness request; it must not block. A check of the same name is replaced.

        What is not ``vital`` is told of, and does its work all the same.
        """
        self._checks[name] = check
        self._vital[name] = vital

    def is_vital(self, name: str) -> bool:
        """Return whether readiness depends on the check."""
        return self._vital[name]

    def problems(self) -> dict[str, str | None]:
        """Return the result of every check."""
        answers: dict[str, str | None] = {}
        for name, check in self._checks.items():
            try:
                answers[name] = check()
            except Exception as error:  # noqa: BLE001 - a check that fails is an answer too
                answers[name] = f"the check itself failed: {error!r}"
        return answers

    def is_ready(self) -> bool:
        """Return whether no vital check reports a problem."""
        return not any(problem for name, problem in self.problems().items() if self._vital[name])


class HttpServer:
    """Serves one process's health and metrics.

    ``/livez`` answers 200 as long as the event loop turns. ``/readyz`` answers 200 or 503 and a JSON
    object ``{"ready": bool, "checks": {name: {"ok": bool, "vital": bool, "problem": text or null}}}``.

    Args:
        health: the checks.
        metrics: what ``/metrics`` shows.
        tls: the certificates, if the port speaks TLS.
        about: what ``/about`` shows.
        app: answers all other paths, from before the service is ready.
    """

    def __init__(
        self,
        health: Health,
        metrics: Metrics,
        tls: TlsConfig,
        about: Callable[[], Mapping[str, Any]],
        app: App | None = None,
    ) -> None:
        self._app = app
        self._health = health
        self._metrics = metrics
        self._tls = tls
        self._pages: dict[str, Callable[[], _Answer]] = {
            "/livez": lambda: _json({"live": True}, 200),
            "/readyz": self._readyz,
            "/about": lambda: _json(about(), 200),
            "/metrics": lambda: (200, metrics.content_type, metrics.render()),
        }
        self._listener: socket.socket | None = None
        self._servers: HttpServers | None = None

    async def start(self, address: str) -> str:
        """Listen on ``address``, port 0 for a free one; returns the URL.

        Raises:
            OSError: the address cannot be had.
            ValueError: it is none.
            InvalidInput: the files of TLS cannot be used.
        """
        self._listener = listener = bind(address)
        port = int(listener.getsockname()[1])
        self._servers = HttpServers(
            self._answer, lambda: self._config(listener), self._tls.files, CLOSE_S_MAX
        )
        await self._servers.start()
        return reachable_url(join_address(split_address(address)[0], port), tls=self._tls.enabled)

    async def stop(self) -> None:
        """Close every connection. Idempotent."""
        if self._listener is not None:
            self._listener.close()
        if self._servers is not None:
            await self._servers.stop()

    def _config(self, listener: socket.socket) -> Config:
        return Config(
            bind=(f"fd://{listener.fileno()}",),
            lifespan="off",
            access_log=False,
            log_format="json",
            max_concurrent_streams=REQUESTS_MAX,
            limit_concurrency=REQUESTS_MAX,
            limit_connections=CONNECTIONS_MAX,
            limit_request_head_size=HEADER_BYTES_MAX,
            h2_max_header_list_size=HEADER_BYTES_MAX,
            h2_max_header_block_size=HEADER_BYTES_MAX,
            max_request_body_size=BODY_BYTES_MAX if self._app is None else APP_BODY_BYTES_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_request_header=HEADER_S_MAX,
            timeout_request_body_idle=HEADER_S_MAX,
            timeout_graceful_shutdown=CLOSE_S_MAX,
            h2_timeout_write=WRITE_S_MAX,
            certfile=self._tls.cert_file,
            keyfile=self._tls.key_file,
            ca_certs=self._tls.client_ca_file,
            cert_reqs=self._tls.client_certs if self._tls.client_ca_file else "none",
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return
        page = self._pages.get(scope["path"])
        if page is None and self._app is not None:
            await self._app(scope, receive, send)
            return
        if page is None:
            status, kind, body = 404, "text/plain", b"there are /livez, /readyz and /metrics\n"
        elif scope["method"] not in ("GET", "HEAD"):
            status, kind, body = 405, "text/plain", b"only GET is answered\n"
        else:
            status, kind, body = page()
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        with contextlib.suppress(OSError):  # the client left
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    def _readyz(self) -> _Answer:
        problems = self._health.problems()
        vital = {name: self._health.is_vital(name) for name in problems}
        ready = all(problem is None for name, problem in problems.items() if vital[name])
        checks = {
            name: {"ok": problem is None, "vital": vital[name], "problem": problem}
            for name, problem in problems.items()
        }
        return _json({"ready": ready, "checks": checks}, 200 if ready else 503)


def _json(value: object, status: int) -> _Answer:
    return status, "application/json", orjson.dumps(value)
