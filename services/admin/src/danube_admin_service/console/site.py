"""The console's address space on the HTTP port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from danube_admin_service.console.pages import PAGES
from danube_admin_service.console.served import Handler, Served
from danube_admin_service.console.ui_v1.acting import ACTS
from danube_admin_service.console.ui_v1.api import PREFIX
from danube_admin_service.console.ui_v1.reading import READS

STATIC: Final = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}


class Site:
    """The console's address space. It answers 503 until `open` and after `close`.

    A process serves HTTP before its service has started: so there is a site before there is what to show.

    Attributes:
        app: the ASGI application.
    """

    def __init__(self) -> None:
        self._served: Served | None = None
        self._refusal = "the admin service is starting"
        live = [
            Route("/live" + path.rstrip("/"), self._to(Served.live))
            for path, page in PAGES.items()
            if page.live
        ]
        self.app = Router(
            [
                *(
                    Route(path, self._to(Served.page), methods=["GET", "POST"][: 1 + page.asked_by_form])
                    for path, page in PAGES.items()
                ),
                *live,
                Route("/static/{name}", _static),
                Route("/login", self._to(Served.login_form)),
                Route("/login", self._to(Served.login), methods=["POST"]),
                Route("/logout", self._to(Served.logout), methods=["POST"]),
                Route("/do/{action}", self._to(Served.act), methods=["POST"]),
                *(Route(PREFIX + path, self._to(Served.api), methods=["POST", "OPTIONS"]) for path in ACTS),
                *(Route(PREFIX + path, self._to(Served.api), methods=["GET", "OPTIONS"]) for path in READS),
            ],
            redirect_slashes=False,  # it would be to the host that the request names, whatever that is
        )

    def open(self, served: Served) -> None:
        """Serve."""
        self._served = served

    def refuse(self, reason: str) -> None:
        """Serve nothing but a reason."""
        self._refusal = reason

    def close(self) -> None:
        """End what is live, and serve nothing more."""
        if self._served is not None:
            self._served.closing.set()
        self._served, self._refusal = None, "the admin service is stopping"

    def _to(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            if self._served is None:
                return Response(f"{self._refusal}\n", 503, media_type="text/plain")
            return await self._served.answer(handler, request)

        return handle


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return Response(status_code=404)
    body = files("danube_admin_service.console").joinpath("static", name).read_bytes()
    return Response(body, media_type=STATIC[name], headers={"Cache-Control": "max-age=300"})
