"""Health and metrics over HTTP: /livez, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson
from aiohttp import web

from danube_common.runtime.address import bind, join_address, reachable_url, split_address
from danube_common.runtime.metrics import Metrics

Check = Callable[[], str | None]
"""None when all is well, else what is wrong."""

CLOSE_S_MAX: Final = 1.0


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
    """

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S_MAX)

    async def start(self, address: str) -> str:
        """Listen on ``address``, port 0 for a free one; returns the URL. Raises OSError, ValueError."""
        host, _ = split_address(address)
        socket = bind(address)
        port = int(socket.getsockname()[1])
        await self._runner.setup()
        await web.SockSite(self._runner, socket).start()
        return reachable_url(join_address(host, port))

    async def stop(self) -> None:
        """Close every connection. Idempotent."""
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return _json({"live": True}, 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        problems = self._health.problems()
        vital = {name: self._health.is_vital(name) for name in problems}
        ready = all(problem is None for name, problem in problems.items() if vital[name])
        checks = {
            name: {"ok": problem is None, "vital": vital[name], "problem": problem}
            for name, problem in problems.items()
        }
        return _json({"ready": ready, "checks": checks}, 200 if ready else 503)

    async def _metrics_text(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": self._metrics.content_type})


def _json(value: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
