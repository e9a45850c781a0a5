"""Calls to etcd: endpoints, authentication, deadlines, and one error for every failure.

Over the stubs that aetcd brings, not over its client: that one has neither TLS nor a second endpoint, and
its watcher cannot tell a lost stream from a cancelled one.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from aetcd import rpc  # type: ignore[import-untyped]

from danube_common.errors import InvalidInput, MetadataUnavailable

RETRY_PAUSE_S: Final = 0.05
READ_ATTEMPTS: Final = 2
RECONNECT_BACKOFF_MS_MIN: Final = 50
RECONNECT_BACKOFF_MS_MAX: Final = 1000
CONNECT_TIMEOUT_MS: Final = 2000
# etcd closes connections that ping more often than every 5 s.
KEEPALIVE_INTERVAL_MS: Final = 10_000
KEEPALIVE_TIMEOUT_MS: Final = 3000
RESPONSE_BYTES_MAX: Final = 256 << 20
SILENCE_S: Final = 0.5
"""An endpoint awaited so long in vain is left, also when the caller gives up before its own deadline."""

_LEADER_REQUIRED: Final = ("hasleader", "true")


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """Certificates for TLS, as PEM texts."""

    ca_pem: bytes
    cert_pem: bytes | None = None
    key_pem: bytes | None = None


class LeaseGone(Exception):
    """The lease has expired."""


@dataclass(frozen=True, slots=True)
class Stubs:
    """The gRPC stubs of one endpoint. aetcd has no types."""

    channel: grpc.aio.Channel
    kv: Any
    lease: Any
    watch: Any
    auth: Any


class EtcdLink:
    """Uses one endpoint at a time, and moves calls and watches to the next after a failure.

    Attributes:
        answered: whether the last call got an answer.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        username: str | None,
        password: str | None,
        tls: EtcdTls | None,
        timeout_s: float,
    ) -> None:
        if not endpoints:
            raise InvalidInput("etcd needs at least one endpoint")
        if (username is None) != (password is None):
            raise InvalidInput("etcd needs a user name and a password, or neither")
        self.timeout_s = timeout_s
        self.answered = True
        self._endpoints = list(endpoints)
        self._stubs = [open_stubs(endpoint, tls) for endpoint in endpoints]
        self._current = 0
        self._watches: defaultdict[int, set[grpc.aio.StreamStreamCall[Any, Any]]] = defaultdict(set)
        self._username = username
        self._password = password
        self._token: str | None = None
        self._closed = False

    async def read(self, call: Callable[[Stubs], Any], request: Any) -> Any:
        """Make a call without effects; retried at the next endpoint. Raises MetadataUnavailable."""
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                return await self._unary(call, request, self.timeout_s / READ_ATTEMPTS)
            except MetadataUnavailable:
                if attempt == READ_ATTEMPTS:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
        raise AssertionError("unreachable")

    async def write(self, call: Callable[[Stubs], Any], request: Any) -> Any:
        """Make a call with effects, once. Raises MetadataUnavailable (done or not), LeaseGone."""
        return await self._unary(call, request, self.timeout_s)

    async def keep_alive(self, lease_id: int) -> int:
        """Renew a lease; return its seconds, 0 if it has expired. Raises MetadataUnavailable."""
        index = self._current
        with self._mapped(index), self._impatient(index):
            stream = self._stubs[index].lease.LeaseKeepAlive(
                iter([rpc.LeaseKeepAliveRequest(ID=lease_id)]),
                timeout=self.timeout_s,
                metadata=await self._metadata(index),
                wait_for_ready=self._patient,
            )
            try:
                async for answer in stream:
                    self.answered = True
                    return int(answer.TTL)
            finally:
                stream.cancel()
        raise self.lost(index, "the stream ended without an answer")

    async def open_watch(self, request: Any) -> tuple[int, grpc.aio.StreamStreamCall[Any, Any]]:
        """Open a watch stream and send its first request. Raises MetadataUnavailable."""
        index = self._current
        with self._mapped(index):
            metadata = [*(await self._metadata(index) or ()), _LEADER_REQUIRED]
            stream = self._stubs[index].watch.Watch(metadata=metadata, wait_for_ready=self._patient)
            try:
                async with asyncio.timeout(self.timeout_s):
                    await stream.write(request)
            except BaseException:
                stream.cancel()
                raise
        watches = self._watches[index]
        watches.add(stream)
        stream.add_done_callback(watches.discard)
        return index, stream

    async def next_answer(self, index: int, stream: grpc.aio.StreamStreamCall[Any, Any]) -> Any:
        """Return the stream's next response. Raises MetadataUnavailable, also after `close`."""
        with self._mapped(index):
            answer = await stream.read()
        if answer is grpc.aio.EOF:
            raise self.lost(index, "the stream ended")
        self.answered = True
        return answer

    def lost(self, index: int, reason: str) -> MetadataUnavailable:
        """Move to the next endpoint, unless another call already has."""
        self.answered = False
        if index == self._current:
            self._current = (index + 1) % len(self._endpoints)
        if not self._patient:
            # A member that stopped without closing its connections sends nothing, and says nothing of it.
            for stream in list(self._watches[index]):
                stream.cancel()
        return MetadataUnavailable(f"etcd at {self._endpoints[index]}: {reason}")

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        self._closed = True
        for stubs in self._stubs:
            await stubs.channel.close(None)

    @property
    def _patient(self) -> bool:
        """With one endpoint a call waits for its return; with several it goes to the next at once."""
        return len(self._endpoints) == 1

    async def _unary(self, call: Callable[[Stubs], Any], request: Any, timeout_s: float) -> Any:
        index = self._current
        with self._mapped(index), self._impatient(index):
            try:
                answer = await self._call(index, call, request, timeout_s)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAUTHENTICATED or self._username is None:
                    raise
                # The token has expired; refused before it was looked at.
                self._token = None
                answer = await self._call(index, call, request, timeout_s)
        self.answered = True
        return answer

    async def _call(self, index: int, call: Callable[[Stubs], Any], request: Any, timeout_s: float) -> Any:
        return await call(self._stubs[index])(
            request, timeout=timeout_s, metadata=await self._metadata(index), wait_for_ready=self._patient
        )

    async def _metadata(self, index: int) -> Sequence[tuple[str, str]] | None:
        if self._username is None:
            return None
        if self._token is None:
            answer = await self._stubs[index].auth.Authenticate(
                rpc.AuthenticateRequest(name=self._username, password=self._password),
                timeout=self.timeout_s,
                wait_for_ready=self._patient,
            )
            self._token = str(answer.token)
        return (("token", self._token),)

    @contextmanager
    def _mapped(self, index: int) -> Iterator[None]:
        """Every way a call can fail, as MetadataUnavailable or LeaseGone."""
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            yield
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if error.code() is grpc.StatusCode.NOT_FOUND and "lease not found" in details:
                raise LeaseGone from error
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._token = None
            raise self.lost(index, f"{error.code().name} {details}") from error
        except (grpc.aio.UsageError, asyncio.InvalidStateError, TimeoutError) as error:
            raise self.lost(index, repr(error)) from error
        except asyncio.CancelledError:
            # A call that ends with its channel, and a watch that `lost` ends, raise the same as a call whose
            # task is cancelled.
            if task and task.cancelling() > cancels:
                raise
            if self._closed:
                raise MetadataUnavailable("the metadata store is closed") from None
            raise self.lost(index, "the endpoint was left") from None

    @contextmanager
    def _impatient(self, index: int) -> Iterator[None]:
        """Leave the endpoint when the caller gives up after SILENCE_S or more without an answer."""
        began = time.monotonic()
        try:
            yield
        except asyncio.CancelledError:
            if time.monotonic() >= began + SILENCE_S:
                self.lost(index, "no answer")
            raise


def open_stubs(endpoint: str, tls: EtcdTls | None) -> Stubs:
    """Return the stubs of an endpoint. Raises InvalidInput."""
    scheme, separator, rest = endpoint.rpartition("://")
    target = rest.rstrip("/")
    if not target or (separator and scheme not in {"http", "https"}):
        raise InvalidInput(f"not an etcd endpoint: {endpoint!r}")
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_BACKOFF_MS_MIN),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_BACKOFF_MS_MAX),
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
        # Each handle has its own connection, so that tests can cut one and not the others.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if tls is None and scheme != "https":
        channel = grpc.aio.insecure_channel(target, options=options)
    else:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=tls.ca_pem if tls else None,
            private_key=tls.key_pem if tls else None,
            certificate_chain=tls.cert_pem if tls else None,
        )
        channel = grpc.aio.secure_channel(target, credentials, options=options)
    return Stubs(
        channel,
        rpc.KVStub(channel),
        rpc.LeaseStub(channel),
        rpc.WatchStub(channel),
        rpc.AuthStub(channel),
    )
