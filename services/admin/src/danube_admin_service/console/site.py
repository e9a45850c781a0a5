"""The console on the HTTP port: pages, what is live on them, log-in, and actions."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qsl, urlencode

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from danube_admin_service.console import calls, catalogue_pages, figures, overview, topic_pages
from danube_admin_service.console.actions import ACTIONS, Unconfirmed, carry_out, offered
from danube_admin_service.console.activity import SAMPLES_MAX
from danube_admin_service.console.peek import peek
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.visitor import Door, Visitor
from danube_common.errors import DanubeError
from danube_common.rpc.port import RpcError, StatusCode
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema

COOKIE: Final = "danube_console"
CREDENTIAL_CHARACTERS_MAX: Final = 3_500
"""What a cookie can hold in every browser."""
REFRESH_S: Final = 5.0
STREAMS_MAX: Final = 24
"""Pages that are live at one time; further ones are shown and do not change by themselves."""
STATIC: Final = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
POLICY: Final = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
HERE: Final = re.compile(r"/(?:[!-.0-\[\]-~][!-~]*)?")
"""A path of this site. Browsers leave out tabs and line ends, and take ``/\\`` for ``//``, before a host."""
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

Build = Callable[[Visitor, Sources, Query], Awaitable[dict[str, object]]]
Handler = Callable[["Served", Request], Awaitable[Response]]


@dataclass(frozen=True)
class Page:
    """A page: its template and what it is made from. ``live``: the marked part of it changes by itself."""

    title: str
    template: str
    build: Build
    live: bool = True


PAGES: Final[Mapping[str, Page]] = {
    "/": Page("Overview", "overview.html", overview.overview),
    "/topics": Page("Topics", "topics.html", topic_pages.topics),
    "/topic": Page("Topic", "topic.html", topic_pages.topic),
    "/subscription": Page("Subscription", "subscription.html", topic_pages.subscription),
    "/peek": Page("Peek", "peek.html", peek, live=False),
    "/cluster": Page("Cluster", "cluster.html", overview.cluster),
    "/namespaces": Page("Namespaces", "namespaces.html", catalogue_pages.namespaces, live=False),
    "/schemas": Page("Schemas", "schemas.html", catalogue_pages.schemas, live=False),
    "/schema": Page("Schema", "schema.html", catalogue_pages.subject, live=False),
    "/security": Page("Security", "security.html", catalogue_pages.security, live=False),
    "/audit": Page("Audit", "audit.html", catalogue_pages.audit),
}
_NAVIGATION: Final[Mapping[str, Callable[[Visitor], bool]]] = {
    "/": lambda visitor: visitor.may(calls.INSTANCES, platform.ListInstancesRequest()),
    "/topics": lambda _visitor: True,
    "/cluster": lambda visitor: visitor.may(calls.INSTANCES, platform.ListInstancesRequest()),
    "/namespaces": lambda _visitor: True,
    "/schemas": lambda visitor: visitor.may(f"{calls.REGISTRY}/ListSubjects", schema.ListSubjectsRequest()),
    "/security": lambda visitor: visitor.may(f"{calls.SECURITY}/ListRoles", admin.Empty()),
    "/audit": lambda visitor: visitor.may(calls.LIST_KEYS, platform.ListKeysRequest()),
}
"""Which pages are offered to whom."""


class _LoginNeeded(Exception):
    """There is no credential, or it does not hold any more."""


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
        self.app = Starlette(
            routes=[
                *(Route(path, self._to(Served.page)) for path in PAGES),
                *live,
                Route("/static/{name}", _static),
                Route("/login", self._to(Served.login_form)),
                Route("/login", self._to(Served.login), methods=["POST"]),
                Route("/logout", self._to(Served.logout), methods=["POST"]),
                Route("/do/{action}", self._to(Served.act), methods=["POST"]),
            ]
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


class Served:
    """Answers requests.

    Attributes:
        closing: ends what is live.
    """

    def __init__(self, door: Door, sources: Sources, *, any_host: bool = False) -> None:
        self.closing = asyncio.Event()
        self._door = door
        self._sources = sources
        self._any_host = any_host or door.guard is not None
        self._streams = 0
        self._templates = Environment(
            loader=PackageLoader("danube_admin_service.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for filter_ in (figures.count, figures.rate, figures.size, figures.age, figures.moment):
            self._templates.filters[filter_.__name__] = filter_
        self._templates.filters["query"] = urlencode
        self._templates.globals["polyline"] = figures.polyline
        self._templates.globals["samples_max"] = SAMPLES_MAX
        self._templates.globals["ui"] = self._templates.get_template("parts.html").module

    async def answer(self, handler: Handler, request: Request) -> Response:
        """Answer a request; what goes wrong becomes a page that says so."""
        try:
            self._check_host(request)
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

    # Pages

    async def page(self, request: Request) -> Response:
        """Answer with a page."""
        credential, visitor = await self._visitor(request)
        page = PAGES[request.url.path]
        built = await page.build(visitor, self._sources, request.query_params)
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
        template = self._templates.get_template(page.template)
        sent = ""
        self._streams += 1
        try:
            while not self.closing.is_set():
                _, visitor = await self._visitor(request)  # may have lost its credential or its permission
                built = await page.build(visitor, self._sources, request.query_params)
                text = "".join(template.blocks["live"](template.new_context(built)))
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
        text = self._templates.get_template(template).render(
            built,
            title=title,
            path=request.url.path,
            stream="/live" + _path_and_query(request).removeprefix("/" if request.url.path == "/" else "")
            if stream
            else "",
            navigation=[
                (path, PAGES[path].title) for path, may in _NAVIGATION.items() if visitor and may(visitor)
            ],
            visitor=visitor,
            form_token=visitor.form_token if visitor is not None else "",
            offers=partial(offered, visitor) if visitor is not None else None,
            guarded=self._door.guard is not None,
            done=request.query_params.get("done", ""),
        )
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
        built = {"message": error.message, "back": request.headers.get("Referer", "")}
        return self._rendered(request, None, "failure.html", "Not done", built, status=status)

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
            return credential, await self._door.open(credential, _peer(request))
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
        form = await _form(request)
        if not compare_digest(form.get("form_token", "").encode(), visitor.form_token.encode()):
            raise RpcError(StatusCode.PERMISSION_DENIED, "the form is too old: load the page again")
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            raise RpcError(StatusCode.NOT_FOUND, "there is no such action")
        try:
            return _redirect(*await carry_out(action, visitor, form))
        except Unconfirmed as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return Response(status_code=404)
    body = files("danube_admin_service.console").joinpath("static", name).read_bytes()
    return Response(body, media_type=STATIC[name], headers={"Cache-Control": "max-age=300"})


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))


def _redirect(path: str, query: Mapping[str, str] | None = None) -> Response:
    location = f"{path}?{urlencode(query)}" if query else path
    return Response(status_code=303, headers={"Location": location, "Cache-Control": "no-store"})


def _set_cookie(request: Request, answer: Response, credential: str) -> None:
    answer.set_cookie(
        COOKIE, credential, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


def _peer(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _path_and_query(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path
