"""The connection to the admin service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol, TypeVar

import typer

from danube_admin_cli.outcome import FAILED, UNREACHABLE, USAGE, give_up
from danube_terminal.choices import Form
from danube_terminal.tls_options import tls

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    from danube_client.tls import Tls

Response = TypeVar("Response", bound="Message")

ENDPOINT = "http://127.0.0.1:50051"
ENDPOINT_VARIABLE = "DANUBE_ADMIN_ENDPOINT"
TLS_VARIABLE = "DANUBE_ADMIN_TLS"
TIMEOUT_S = 30.0
# What servers say of an unknown method that have no words of their own for it.
FOREIGN_UNIMPLEMENTED = "Method not found!"
# How gRPC tells of an answer of HTTP/2 that is none of gRPC, as the port for health and metrics gives it.
NOT_GRPC = "Received http2 header with status"
# Lists of all topics are long.
RECEIVE_BYTES_MAX = 64 * 1024 * 1024


ENDPOINT_HELP = f"The admin service; default {ENDPOINT}, or {ENDPOINT_VARIABLE} if set."
Endpoint = Annotated[str | None, typer.Option("--endpoint", metavar="URL", help=ENDPOINT_HELP)]
Output = Annotated[
    Form | None, typer.Option("--output", "-o", help="How results are printed; default table.")
]


class Call(Protocol):
    """Calls a method by its full name and returns its answer, an ``answer``."""

    def __call__(
        self, method: str, request: Message, answer: type[Response], *, missing: bool = False
    ) -> Response:
        """Make the call. Ends the command with an error that says why it failed.

        If what is asked for may be ``missing``, the answer is empty then.
        """


class Stream(Protocol):
    """Calls a method by its full name whose answers are a stream."""

    def __call__(
        self,
        method: str,
        request: Message | Iterator[Message],
        answer: type[Response],
        *,
        timeout_s: float | None = None,
    ) -> Iterator[Response]:
        """Yield the answers, for ``timeout_s`` at most. Ends the command with an error that tells why."""


def form_of(context: typer.Context, output: Form | None) -> Form:
    """Return the form given at the command, else the one given before the command."""
    return output or context.find_root().params.get("output") or Form.table


def open_channel(address: str, security: Tls | None, what: str, bytes_max: int) -> grpc.Channel:
    """Open a channel, or end the command if the address is none. ``what`` it is of begins the sentence."""
    import grpc  # noqa: PLC0415 - slow to import, help needs nothing of it

    secure = address.startswith("https://")
    target = address.removeprefix("https://" if secure else "http://").rstrip("/")
    if "://" in target or "/" in target or not target.rpartition(":")[2].isdigit():
        give_up(f"{address!r}: {what} is http://host:port or https://host:port", USAGE)
    options: list[tuple[str, int | str]] = [("grpc.max_receive_message_length", bytes_max)]
    if not secure:
        if security is not None and security.token is not None and not security.is_needed:
            return grpc.secure_channel(target, security.local_credentials(), options)
        if security is not None:
            give_up(f"{address!r}: with TLS {what} is https://host:port", USAGE)
        return grpc.insecure_channel(target, options=options)
    if security is None:
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    options += security.channel_options()
    return grpc.secure_channel(target, security.credentials(), options)


@contextmanager
def admin(context: typer.Context, endpoint: str | None) -> Iterator[tuple[Call, Stream]]:
    """Open a connection to the admin service and return the functions that call it.

    The endpoint is the one given at the command, else before the command, else in the environment. A call
    that fails ends the process with one line on stderr.
    """
    import grpc  # noqa: PLC0415 - slow to import, help needs nothing of it

    root = context.find_root().params.get("endpoint")
    address = endpoint or root or os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT
    if os.environ.get(TLS_VARIABLE, "").lower() in ("1", "true", "yes"):
        address = f"https://{address.removeprefix('http://').removeprefix('https://')}"
    with open_channel(address, tls(context), "an endpoint", RECEIVE_BYTES_MAX) as channel:

        def call(method: str, request: Message, answer: type[Response], *, missing: bool = False) -> Response:
            function = channel.unary_unary(
                method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            try:
                return function(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                if missing and error.code() is grpc.StatusCode.NOT_FOUND:
                    return answer()
                _fail(address, method, error)

        def stream(
            method: str,
            request: Message | Iterator[Message],
            answer: type[Response],
            *,
            timeout_s: float | None = None,
        ) -> Iterator[Response]:
            both_ways = isinstance(request, Iterator)
            opened: Any = channel.stream_stream if both_ways else channel.unary_stream
            function = opened(
                method,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            try:
                yield from function(request, timeout=timeout_s)
            except grpc.RpcError as error:
                if timeout_s is None or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    _fail(address, method, error)

        yield call, stream


def _fail(address: str, method: str, error: grpc.RpcError) -> NoReturn:
    """End the command with one line that says why a call failed."""
    import grpc  # noqa: PLC0415 - slow to import, help needs nothing of it

    code, details = error.code(), error.details() or error.code().name
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        give_up(unreachable(address, details), UNREACHABLE)
    if details.startswith(NOT_GRPC):
        give_up(_foreign(address), UNREACHABLE)
    if "message larger than max" in details:
        give_up(f"{address}: the answer is over the {RECEIVE_BYTES_MAX} bytes that are taken here")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        offered = details != FOREIGN_UNIMPLEMENTED
        give_up(f"{address}: {details}" if offered else f"{address} does not offer {method}")
    give_up(details, FAILED)


def unreachable(address: str, details: str) -> str:
    """Return why a call did not reach the admin service, or reached it before it was ready.

    What gRPC itself says names system calls instead of a reason; what the service says is repeated.
    """
    if "Failed parsing HTTP/2" in details:
        return _foreign(address)
    if details.startswith(("failed to connect", "DNS resolution failed")):
        trust = ": nothing answers, it does not speak TLS, or one of the two certificates is not trusted"
        return f"{address} cannot be reached{trust if address.startswith('https://') else ''}"
    if details == "Deadline Exceeded":
        return f"{address} did not answer within {TIMEOUT_S:g} s"
    return f"{address}: {details}"


def _foreign(address: str) -> str:
    return f"{address} is not the admin port: something answers there that does not speak gRPC"
