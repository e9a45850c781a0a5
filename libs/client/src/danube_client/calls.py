"""The calls of a connection: unary ones, deliveries to a consumer, and streams in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from danube_client.errors import CallError, Closed, TopicNotFound, UnknownClient, Unreachable, from_status
from danube_proto import danube_api_pb2 as wire

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Metadata = tuple[tuple[str, str], ...]


class Unary(Generic[Request, Response]):
    """One unary method of a connection."""

    def __init__(
        self,
        call: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        address: str,
        timeout_s: float,
        missing: type[CallError] = UnknownClient,
        credentials: Metadata = (),
    ) -> None:
        self._credentials = credentials
        self._call = call
        self._address = address
        self._timeout_s = timeout_s
        self._missing = missing

    async def __call__(self, request: Request, metadata: Metadata = ()) -> Response:
        """Make the call and return its answer. Raises CallError, Closed."""
        return await self.finish(self.start(request, metadata))

    def start(self, request: Request, metadata: Metadata = ()) -> grpc.aio.UnaryUnaryCall[Request, Response]:
        """Start the call. Calls are sent in the order in which they are started.

        Raises:
            Closed: the connection is closed.
        """
        try:
            return self._call(request, timeout=self._timeout_s, metadata=self._credentials + metadata or None)
        except grpc.aio.UsageError as error:
            raise Closed("the client is closed") from error

    async def finish(self, call: grpc.aio.UnaryUnaryCall[Request, Response]) -> Response:
        """Wait for the answer of a started call.

        Raises:
            CallError: the call ended with a status other than OK.
            Closed: the connection was closed meanwhile.
        """
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_status(error, self._address, self._missing) from error
        except asyncio.CancelledError:
            # A closed channel cancels its calls, although nobody cancelled the awaiting task.
            _raise_unless_cancelled()
            raise


class Deliveries:
    """An asynchronous iterator over the deliveries of one consumer stream. It ends when the server ends it.

    Iteration raises CallError when the stream ended with a status other than OK, Unreachable after
    `break_off`, and Closed when the connection was closed.
    """

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[wire.ReceiveRequest, wire.StreamMessage], address: str
    ) -> None:
        self._call = call
        self._address = address
        self._broken_off = False

    def __aiter__(self) -> Deliveries:
        return self

    async def __anext__(self) -> wire.StreamMessage:
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            _raise_if_cancelled()
            raise from_status(error, self._address) from error
        except asyncio.CancelledError:
            if self._broken_off and not _is_cancelled():
                raise Unreachable("UNAVAILABLE", f"{self._address} was given up") from None
            _raise_unless_cancelled()
            raise
        if isinstance(message, wire.StreamMessage):
            return message
        raise StopAsyncIteration

    def break_off(self) -> None:
        """End the stream; the iteration raises Unreachable."""
        self._broken_off = True
        self._call.cancel()


class Stream(Generic[Request, Response]):
    """A stream of native streaming: requests up, if it has any beside the first, and answers down."""

    def __init__(
        self,
        call: grpc.aio.StreamStreamCall[Request, Response],
        address: str,
        check: Callable[[], Awaitable[None]],
    ) -> None:
        self._call = call
        self._check = check
        self.address = address
        self._given_up = ""

    async def open(self, request: Request) -> Response:
        """Send the first request and return the first answer.

        Raises:
            CallError: the stream has ended: UNIMPLEMENTED if the platform has no native streaming, also if
                gRPC has lost that because it still wanted to write.
        """
        try:
            await self.write(request)
        except CallError:
            await self._check()
            raise
        return await self.read()

    async def write(self, request: Request) -> None:
        """Send a request.

        Raises:
            Unreachable: the stream has ended, and gRPC does not say why.
            CallError: the stream has ended.
        """
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            _raise_if_cancelled()
            # An AioRpcError is gRPC's own here: the status of the server is lost with it.
            if isinstance(error, asyncio.InvalidStateError) and self._call.done():
                await self.read()
            raise Unreachable("UNAVAILABLE", f"{self.address} has ended the stream") from error
        except asyncio.CancelledError:
            _raise_unless_cancelled()
            raise

    async def read(self) -> Response:
        """Return the next answer.

        Raises:
            CallError: the stream ended.
            Closed: the connection was closed.
        """
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            _raise_if_cancelled()
            raise from_status(error, self.address, TopicNotFound) from error
        except asyncio.CancelledError:
            if self._given_up and not _is_cancelled():
                raise Unreachable("UNAVAILABLE", self._given_up) from None
            _raise_unless_cancelled()
            raise
        if isinstance(answer, Message):
            return answer  # type: ignore[return-value]  # not the end
        raise Unreachable("UNAVAILABLE", f"{self.address} has ended the stream")

    def break_off(self, reason: str = "") -> None:
        """End the stream; with a reason, `read` raises Unreachable with it."""
        self._given_up = reason
        self._call.cancel()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _raise_unless_cancelled() -> None:
    if not _is_cancelled():
        raise Closed("the client is closed") from None


def _raise_if_cancelled() -> None:
    """Raise the cancellation that gRPC lost: one that comes while it prepares a stream does not reach us."""
    if _is_cancelled():
        raise asyncio.CancelledError from None
