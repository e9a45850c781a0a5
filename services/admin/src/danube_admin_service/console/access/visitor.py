"""Who looks at the console, and what they may do: the same table of methods as that of the gRPC port."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.message import Message

from danube_common.rpc.guard import Access, Guard
from danube_common.rpc.port import Call, Methods, RpcError, StatusCode, answered

FORM: Final = b"danube console form"

A = TypeVar("A", bound=Message)


def form_token(credential: str) -> str:
    """Return what a form of the holder of a credential must contain; nobody else can compute it."""
    return hmac.new(credential.encode(), FORM, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Door:
    """The admin methods, and what guards them; without a guard everybody may do everything."""

    methods: Methods
    guard: Guard | None

    async def open(self, credential: str, peer: str) -> Visitor:
        """Return who holds a credential. Raises RpcError (UNAUTHENTICATED)."""
        access = (
            await self.guard.admit_bearer(credential, peer, "console") if self.guard is not None else None
        )
        bearer = credential if self.guard is not None else ""
        return Visitor(self, access, peer, form_token(credential), bearer)


@dataclass(frozen=True)
class Visitor:
    """Makes admin calls in this process, as a client of the gRPC port would.

    Attributes:
        form_token: what the visitor's forms must contain.
        credential: for calls to gateways; empty while authentication is off.
    """

    door: Door
    access: Access | None
    peer: str
    form_token: str
    credential: str

    @property
    def name(self) -> str:
        """Who it is; empty while authentication is off."""
        return str(self.access.identity) if self.access is not None else ""

    def may(self, method: str, request: Message) -> bool:
        """Return whether a call is allowed; pages offer only what is."""
        guard, access = self.door.guard, self.access
        return guard is None or (
            access is not None and guard.may(access, method, request.SerializeToString())
        )

    def require(self, method: str, request: Message) -> Call:
        """Check, and record, a call that the console carries out by itself. Raises RpcError."""
        guard, access = self.door.guard, self.access
        call = Call(method, request.SerializeToString(), peer=self.peer)
        if guard is not None and access is not None:
            guard.authorize(call, access)
        return call

    async def ask(self, method: str, request: Message, answer: type[A]) -> A:
        """Make a call of the admin port and return its answer. Raises RpcError."""
        return answer.FromString(await self.call(method, request))

    async def call(self, method: str, request: Message) -> bytes:
        """Make a call of the admin port and return its encoded answer. Raises RpcError."""
        call = self.require(method, request)
        methods = self.door.methods
        try:
            return await answered(methods.unary[method], call)
        except Exception as error:
            status = error if isinstance(error, RpcError) else methods.on_error(error)
            raise status or RpcError(StatusCode.INTERNAL, "internal error") from error
