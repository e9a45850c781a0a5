"""Admits calls: who calls, whether they may, and for how long a stream stays allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import structlog
from h2corn import HTTPScope
from prometheus_client import Counter

from danube_common.errors import InvalidInput
from danube_common.rpc.port import Call, RpcError, StatusCode
from danube_common.runtime.metrics import Family, Metrics
from danube_common.security.audit import AuditLog
from danube_common.security.authenticator import Authenticator
from danube_common.security.authorizer import Resource
from danube_common.security.identity import Identity
from danube_common.security.methods import PUBLIC, RULES, Rule
from danube_common.security.policies import SecurityPolicies
from danube_common.security.roles import Permission
from danube_common.security.tokens import TokenRefused, Verified
from danube_common.tracing.current import current_ids

KNOWN_MAX: Final = 20_000
"""Callers that are remembered, each a connection with its credential; beyond it the oldest is forgotten."""
ALLOWED_MAX: Final = 10_000
"""Decisions that are remembered for one of them; beyond it all are forgotten."""
CHECK_S: Final = 1.0
"""How soon an expiry, a revoked key or a changed binding ends what it allowed before."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.security")

_Client = tuple[tuple[str, int] | None, bytes | None, str | None]
End = Callable[[RpcError], None]


class Access:
    """What a caller may do, as far as it was asked: kept for a connection and its credential."""

    __slots__ = ("_allowed", "_guard", "peer", "verified")

    def __init__(self, guard: Guard, verified: Verified | None, peer: str) -> None:
        self._guard = guard
        self._allowed: set[tuple[Permission, Resource | str]] = set()
        self.verified = verified
        self.peer = peer

    @property
    def identity(self) -> Identity | None:
        """Who calls; None if that was not asked."""
        return self.verified.identity if self.verified is not None else None

    def require(self, permission: Permission, topic: str, method: str = "") -> None:
        """See `Caller.require`."""
        if (permission, topic) not in self._allowed:
            self.check(permission, Resource(topic=topic), method)

    def check(self, permission: Permission, resource: Resource, method: str) -> None:
        """Return if it is allowed. Raises RpcError."""
        key = (permission, resource.topic or resource)
        if key in self._allowed:
            return
        self._guard.decide(self, permission, resource, method)
        if len(self._allowed) >= ALLOWED_MAX:
            self._allowed.clear()
        self._allowed.add(key)

    def forget(self) -> None:
        """Decide anew from now on."""
        self._allowed.clear()


class StreamAccess:
    """The same for one stream, which remembers what it needs, and ends when that is no longer allowed."""

    def __init__(self, access: Access, method: str, end: End, *, by_handler: bool) -> None:
        self.access = access
        self.method = method
        self.end = end
        self._by_handler = by_handler
        self.required: set[tuple[Permission, Resource]] = set()
        self._topics: set[tuple[Permission, str]] = set()

    @property
    def identity(self) -> Identity | None:
        """Who calls."""
        return self.access.identity

    def require(self, permission: Permission, topic: str, method: str = "") -> None:
        """See `Caller.require`. What is taken away ends the stream, so it is not looked up each time."""
        if (permission, topic) not in self._topics:
            self.check(permission, Resource(topic=topic), method)
            self._topics.add((permission, topic))

    def check(self, permission: Permission, resource: Resource, method: str) -> None:
        """Return if it is allowed. Raises RpcError."""
        self.access.check(permission, resource, method)
        self.required.add((permission, resource))

    def check_used(self) -> None:
        """Raise RuntimeError if the handler was to require something, and did not."""
        if self._by_handler and not self.required:
            raise RuntimeError("the handler of the stream has required no permission")


class Guard:
    """Stands before the handlers of a port.

    Args:
        authenticator: finds out who calls.
        policies: what they may do.
        metrics: counts refusals.
        audit: records denials and administrative calls; None: nowhere.
        audit_required: whether administrative calls are refused when they cannot be recorded.
        rules: what each method needs.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        policies: SecurityPolicies,
        metrics: Metrics,
        audit: AuditLog | None = None,
        *,
        audit_required: bool = False,
        rules: Mapping[str, Rule] = RULES,
    ) -> None:
        self._authenticator = authenticator
        self._policies = policies
        self._audit = audit
        self._audit_required = audit_required
        self._rules = rules
        self._known: dict[_Client, Access] = {}
        self._streams: set[StreamAccess] = set()
        self._nobody = Access(self, None, "")
        self._version = policies.version
        self._refused: Family[Counter] = metrics.counter(
            "auth_refusals", "Calls refused for want of credentials or permission.", ("reason",)
        )

    def check_table(self, methods: Iterable[str]) -> None:
        """Raise RuntimeError if a method has no rule."""
        if missing := sorted(set(methods) - set(self._rules)):
            raise RuntimeError(f"no rule says who may call {', '.join(missing)}")

    def known(self, scope: HTTPScope, headers: Mapping[bytes, bytes]) -> Access | None:
        """Return a caller that was admitted before on this connection with this credential, or None."""
        access = self._known.get(_client(scope, headers))
        if access is not None and access.verified is not None and access.verified.expires_s <= time.time():
            return None
        return access

    async def admit(self, scope: HTTPScope, headers: Mapping[bytes, bytes], peer: str) -> Access:
        """Find out who calls. Raises RpcError if nobody is known and the method is not for everybody."""
        name = scope["path"]
        if self._rules.get(name, PUBLIC).public:  # what is not registered is told to everybody, too
            return self._nobody
        authorization = headers.get(b"authorization")
        verified = await self._identify(
            authorization.decode("latin-1") if authorization is not None else None,
            _certificate(scope),
            peer,
            name,
        )
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        access = self._known[_client(scope, headers)] = Access(self, verified, peer)
        return access

    async def admit_bearer(self, token: str, peer: str, name: str) -> Access:
        """Find out who holds a token that did not come with a call; the audit tells ``name``.

        Raises RpcError if nobody is known, or the token is empty.
        """
        authorization = f"Bearer {token}" if token else None
        return Access(self, await self._identify(authorization, None, peer, name), peer)

    async def _identify(
        self, authorization: str | None, certificate: str | None, peer: str, name: str
    ) -> Verified:
        try:
            return await self._authenticator.identify(authorization, certificate)
        except TokenRefused as error:
            self._refused.labels("unauthenticated").inc()
            self._record(None, peer, name, "", str(error), allowed=False)
            raise RpcError(StatusCode.UNAUTHENTICATED, str(error)) from None

    def may(self, access: Access, method: str, request: bytes) -> bool:
        """Return whether `authorize` would let a call of a method in the table pass. Nothing is recorded."""
        rule = self._rules[method]
        if rule.find is None or rule.permission is None:
            return True
        try:
            resource = rule.find(request)
        except InvalidInput:
            return False
        identity = access.identity
        return identity is not None and self._policies.authorizer.allows(identity, rule.permission, resource)

    def authorize(self, call: Call, access: Access | StreamAccess) -> None:
        """Let a call go to its handler, which finds ``call.access``. Raises RpcError if it may not."""
        call.access = access
        rule = self._rules[call.method]
        if rule.find is None or rule.permission is None:
            return
        try:
            resource = rule.find(call.request)
        except InvalidInput as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None
        access.check(rule.permission, resource, call.method)
        if rule.audited:
            recorded = self._record(
                access.identity, call.peer, call.method, str(resource), rule.permission, allowed=True
            )
            if not recorded and self._audit_required:
                raise RpcError(StatusCode.UNAVAILABLE, "the audit log cannot be written")

    @contextmanager
    def stream(self, call: Call, access: Access, end: End) -> Iterator[StreamAccess]:
        """Authorize a stream; ``end`` is called once it is no longer allowed. Raises RpcError."""
        stream = StreamAccess(access, call.method, end, by_handler=self._rules[call.method].by_handler)
        self.authorize(call, stream)
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)

    def decide(self, access: Access, permission: Permission, resource: Resource, method: str) -> None:
        """Return if the caller may do it. Raises RpcError."""
        identity = access.identity
        if identity is not None and self._policies.authorizer.allows(identity, permission, resource):
            return
        self._refused.labels("denied").inc()
        self._record(identity, access.peer, method, str(resource), permission, allowed=False)
        raise _denied(identity, permission, resource)

    async def run(self) -> None:
        """End what is no longer allowed, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            self.look_again()

    def look_again(self) -> None:
        """Forget callers whose credentials no longer hold, and end streams that are no longer allowed."""
        holds = self._authenticator.still_holds
        for client, access in list(self._known.items()):
            if access.verified is not None and not holds(access.verified):
                del self._known[client]
        changed = self._version != self._policies.version
        self._version = self._policies.version
        if changed:
            for access in self._known.values():
                access.forget()
        for stream in list(self._streams):
            if changed:
                stream.access.forget()  # it may be known no longer
            if (end := self._end_of(stream, changed=changed)) is not None:
                error, resource = end
                self._streams.discard(stream)
                self._record(
                    stream.identity, stream.access.peer, stream.method, resource, error.message, allowed=False
                )
                stream.end(error)

    def _end_of(self, stream: StreamAccess, *, changed: bool) -> tuple[RpcError, str] | None:
        """Return why a stream is no longer allowed, and on which resource; "" if on any."""
        verified = stream.access.verified
        if verified is None:
            return None
        if not self._authenticator.still_holds(verified):
            # Not UNAUTHENTICATED, after which clients give up: another token may be at hand.
            text = "the credentials have expired or were revoked: open the stream again with others"
            return RpcError(StatusCode.UNAVAILABLE, text), ""
        if changed:
            authorizer = self._policies.authorizer
            for permission, resource in stream.required:
                if not authorizer.allows(verified.identity, permission, resource):
                    return _denied(verified.identity, permission, resource), str(resource)
        return None

    def _record(
        self,
        identity: Identity | None,
        peer: str,
        method: str,
        resource: str,
        reason: str,
        *,
        allowed: bool,
    ) -> bool:
        if self._audit is None:
            return True
        return self._audit.write(
            {
                "identity": str(identity or ""),
                "peer": peer,
                "method": method,
                "resource": resource,
                "allowed": allowed,
                "reason": reason,
                **current_ids(),
            },
            may_drop=not allowed,
        )


def _client(scope: HTTPScope, headers: Mapping[bytes, bytes]) -> _Client:
    return scope.get("client"), headers.get(b"authorization"), _certificate(scope)


def _certificate(scope: HTTPScope) -> str | None:
    """Return the client's certificate as PEM; None without one."""
    tls = scope["extensions"].get("tls")
    chain = tls["client_cert_chain"] if tls is not None else ()
    return chain[0] if chain else None


def _denied(identity: Identity | None, permission: Permission, resource: Resource) -> RpcError:
    who = str(identity) if identity is not None else "a caller without credentials"
    place = "anything" if resource.anywhere else str(resource)
    return RpcError(StatusCode.PERMISSION_DENIED, f"{who} has no permission {permission} on {place}")
