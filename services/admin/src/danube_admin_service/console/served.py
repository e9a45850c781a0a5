"""Answers the requests of browsers: pages, what is live on them, log-in, and actions."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from hmac import compare_digest
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from danube_admin_service.console.access.visitor import Door, Visitor
from danube_admin_service.console.action import Unconfirmed, carry_out
from danube_admin_service.console.actions import ACTIONS, offered
from danube_admin_service.console.pages import NAVIGATION, PAGES, Page
from danube_admin_service.console.rendering import Rendering
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.ui_v1.api import Api
from danube_common.errors import DanubeError
from danube_common.rpc.port import RpcError, StatusCode

COOKIE: Final = "danube_console"
CREDENTIAL_CHARACTERS_MAX: Final = 3_500
"""What a cookie can hold in every browser."""
FORM_FIELDS_MAX: Final = 200
REFRESH_S: Final = 5.0
STREAMS_MAX: Final = 24
"""Pages that are live at one time; further ones are shown and do not change by themselves."""
POLICY: Final = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
HERE: Final = re.compile(r"/(?:[!-.0-\[\]-~][!-~]*)?")
"""A path of this site. Browsers leave out tabs and line ends, and take ``/\\`` for ``//``, before a host."""
OWN_SITE: Final = ("same-origin", "none")
"""What browsers say of where a request comes from, if from this site's pages or from a person."""
FAILED: Final = {403: "Not allowed", 404: "Not found", 500: "Broken", 503: "Not reached", 504: "Not in time"}
"""Titles of pages that say why there is nothing else."""
HTTP_STATUS: Final[Mapping[StatusCode, int]] = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")

Handler = Callable[["Served", Request], Awaitable[Response]]


class _LoginNeeded(Exception):
    """There is no credential, or it does not hold any more."""


class Served:
    """Answers requests.

    Attributes:
        closing: ends what is live.
    """

    def __init__(
        self, door: Door, sources: Sources, *, any_host: bool = False, origins: Collection[str] = ()
    ) -> None:
        self.closing = asyncio.Event()
        self._door = door
        self._sources = sources
        self._any_host = any_host or door.guard is not None
        self._streams = 0
        self._api = Api(door, sources, origins, COOKIE)
        self._rendering = Rendering()

    async def answer(self, handler: Handler, request: Request) -> Response:
        """Answer a request; what goes wrong becomes a page that says so."""
        try:
            self._check_host(request)
            if request.method == "POST" and handler is not Served.api:
                _check_sender(request)
            return await handler(self, request)
        except _LoginNeeded:
            after = {"next": _path_and_query(request)} if request.method == "GET" else {}
            return _redirect("/login", after)
        except RpcError as error:
            return self._failure(request, error)
        except DanubeError as error:
            return self._failure(request, RpcError(StatusCode.UNAVAILABLE, str(error)))
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - the boundary: everything becomes a page
            _log.error("console_page_failed", path=request.url.path, exc_info=error)
            return self._failure(request, RpcError(StatusCode.INTERNAL, "internal error: the log says which"))

    async def api(self, request: Request) -> Response:
        """Answer the original's user interface."""
        return await self._api.answer(request)

    # Pages

    async def page(self, request: Request) -> Response:
        """Answer with a page."""
        credential, visitor = await self._visitor(request)
        page = PAGES[request.url.path]
        query: Query = request.query_params
        if request.method == "POST":
            query = await self._own_form(request, visitor)
        built = await page.build(visitor, self._sources, query)
        answer = self._rendered(request, visitor, page.template, page.title, built, stream=page.live)
        if self._door.guard is None and request.cookies.get(COOKIE) != credential:
            _set_cookie(request, answer, credential)
        return answer

    async def live(self, request: Request) -> Response:
        """Send the part of a page that changes, each time it has changed, as server-sent events."""
        page = PAGES[request.url.path.removeprefix("/live") or "/"]
        await self._visitor(request)
        if self._streams >= STREAMS_MAX:
            raise RpcError(StatusCode.UNAVAILABLE, f"{STREAMS_MAX} pages are live already")
        return StreamingResponse(
            self._changes(request, page),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _changes(self, request: Request, page: Page) -> AsyncIterator[str]:
        sent = ""
        self._streams += 1
        try:
            while not self.closing.is_set():
                _, visitor = await self._visitor(request)  # may have lost its credential or its permission
                built = await page.build(visitor, self._sources, request.query_params)
                text = self._rendering.live(page.template, built)
                changed = text != sent
                lines = (
                    "".join(f"data: {line}\n" for line in text.splitlines()) if changed else ": no change\n"
                )
                yield f"{lines}\n"
                sent = text
                with suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_S):
                        await self.closing.wait()
        except (_LoginNeeded, RpcError, DanubeError) as error:
            _log.debug("live_page_ended", page=request.url.path, reason=str(error))
        finally:
            self._streams -= 1

    def _rendered(
        self,
        request: Request,
        visitor: Visitor | None,
        template: str,
        title: str,
        built: Mapping[str, object],
        *,
        status: int = 200,
        stream: bool = False,
    ) -> Response:
        page = PAGES.get(request.url.path)
        common = {
            "title": title,
            "path": (page.section if page is not None else "") or request.url.path,
            "stream": _live_path(request) if stream else "",
            "navigation": [
                (path, PAGES[path].title) for path, may in NAVIGATION.items() if visitor and may(visitor)
            ],
            "visitor": visitor,
            "form_token": visitor.form_token if visitor is not None else "",
            "offers": partial(offered, visitor) if visitor is not None else None,
            "guarded": self._door.guard is not None,
            "done": request.query_params.get("done", ""),
        }
        text = self._rendering.page(template, {**common, **built})
        return Response(
            text,
            status,
            media_type="text/html",
            headers={
                "Cache-Control": "no-store",
                "Content-Security-Policy": POLICY,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "same-origin",
            },
        )

    def _failure(self, request: Request, error: RpcError) -> Response:
        status = HTTP_STATUS.get(error.code, 502)
        built = {"message": error.message}
        visitor: Visitor | None = getattr(request.state, "visitor", None)
        return self._rendered(
            request, visitor, "failure.html", FAILED.get(status, "Not done"), built, status=status
        )

    # Who looks

    async def _visitor(self, request: Request) -> tuple[str, Visitor]:
        """Return the credential and whose it is. Raises _LoginNeeded."""
        credential = request.cookies.get(COOKIE, "")
        if self._door.guard is None:
            # Nobody is asked for a token: what is random ties forms to the browser that they were sent to.
            credential = credential or secrets.token_urlsafe(24)
        elif not credential:
            raise _LoginNeeded
        try:
            request.state.visitor = visitor = await self._door.open(credential, _peer(request))
            return credential, visitor
        except RpcError as error:
            if error.code is StatusCode.UNAUTHENTICATED:
                raise _LoginNeeded from None
            raise

    def _check_host(self, request: Request) -> None:
        """Without log-in, refuse what a foreign page asks of this machine by a name of its own."""
        host = request.url.hostname or ""
        if self._any_host or host == "localhost":
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            message = (
                f"without authentication, the console is not served as {host}: use localhost or an address"
            )
            raise RpcError(StatusCode.PERMISSION_DENIED, message) from None

    async def login_form(self, request: Request) -> Response:
        """Ask for a token."""
        built = {"next": request.query_params.get("next", "/"), "problem": ""}
        return self._rendered(request, None, "login.html", "Log in", built)

    async def login(self, request: Request) -> Response:
        """Take a token, and keep it in a cookie."""
        form = await _form(request)
        credential, after = form.get("token", "").strip(), form.get("next", "/")
        try:
            if len(credential) > CREDENTIAL_CHARACTERS_MAX:
                problem = f"the token has more than {CREDENTIAL_CHARACTERS_MAX} characters: use an API key"
                raise RpcError(StatusCode.INVALID_ARGUMENT, problem)
            await self._door.open(credential, _peer(request))
        except RpcError as error:
            built = {"next": after, "problem": error.message}
            return self._rendered(request, None, "login.html", "Log in", built, status=401)
        answer = _redirect(after if HERE.fullmatch(after) else "/")
        _set_cookie(request, answer, credential)
        return answer

    async def logout(self, _request: Request) -> Response:
        """Forget the token."""
        answer = _redirect("/login")
        answer.delete_cookie(COOKIE)
        return answer

    # Actions

    async def act(self, request: Request) -> Response:
        """Carry out an action, then show the page that it leads to."""
        _, visitor = await self._visitor(request)
        form = await self._own_form(request, visitor)
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            raise RpcError(StatusCode.NOT_FOUND, "there is no such action")
        try:
            outcome = await carry_out(action, visitor, self._sources, form)
        except Unconfirmed as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None
        path, query = outcome.target
        if outcome.secret:
            built = {"secret": outcome.secret, "back": path, "done": outcome.done}
            return self._rendered(request, visitor, "secret.html", "Keep this", built)
        return _redirect(path, {**query, "done": outcome.done})

    async def _own_form(self, request: Request, visitor: Visitor) -> dict[str, str]:
        """Return the fields of a form that this visitor was sent. Raises RpcError."""
        form = await _form(request)
        if not compare_digest(form.pop("form_token", "").encode(), visitor.form_token.encode()):
            raise RpcError(StatusCode.PERMISSION_DENIED, "the form is too old: load the page again")
        return form


def _check_sender(request: Request) -> None:
    """Refuse a form that a page of another site sends: it would log a person in as somebody else.

    A proxy in front may speak TLS, so only the host is compared.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        own = site in OWN_SITE
    else:
        own = origin is None or urlsplit(origin).netloc == request.url.netloc
    if not own:
        raise RpcError(StatusCode.PERMISSION_DENIED, "pages of other sites may send no form here")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; the values of one that comes several times are joined by commas."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(
        (await request.body()).decode(errors="replace"),
        keep_blank_values=True,
        max_num_fields=FORM_FIELDS_MAX,
    ):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _redirect(path: str, query: Mapping[str, str] | None = None) -> Response:
    location = f"{path}?{urlencode(query)}" if query else path
    return Response(status_code=303, headers={"Location": location, "Cache-Control": "no-store"})


def _set_cookie(request: Request, answer: Response, credential: str) -> None:
    answer.set_cookie(
        COOKIE, credential, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


def _peer(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _live_path(request: Request) -> str:
    return "/live" + _path_and_query(request).removeprefix("/" if request.url.path == "/" else "")


def _path_and_query(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path
