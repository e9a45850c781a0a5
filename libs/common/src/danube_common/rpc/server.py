"""The RPC server: h2corn, an HTTP/2 server in Rust, behind the seam of `rpc.port`.

Why this library, and what is answered for at which layer: docs/adr/0025-a-front-in-rust.md.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections import Counter
from collections.abc import Collection
from typing import Final

import structlog
from h2corn import Config, RequestPolicy
from prometheus_client import Gauge

from danube_common.rpc.call_counts import CallCounts
from danube_common.rpc.connections import COUNT_S, LOOK_S, STATES, close_excess, count_connections
from danube_common.rpc.dispatcher import Dispatcher
from danube_common.rpc.guard import Guard
from danube_common.rpc.port import Methods
from danube_common.rpc.request import MessageLimit
from danube_common.rpc.running import REQUEST_WAITS_MAX, HeldBytes, Refused, Running, nobody_counts
from danube_common.runtime.address import bind, join_address, split_address
from danube_common.runtime.http_servers import HttpServers
from danube_common.runtime.metrics import Family, Metrics
from danube_common.runtime.tls_config import TlsConfig

STREAMS_MAX: Final = 10_000
"""Streams, of the server and bidirectional, open at one time, unless the caller says otherwise."""
CALLS_PENDING_MAX: Final = 1024
"""Calls begun by clients whose request has not arrived in full, over and above the two bounds."""
CONNECTIONS_MAX: Final = 20_000
PEER_SHARE: Final = 0.5
"""Of the connections, how many may be from one address, unless the caller says otherwise."""
FILES_KEPT: Final = 256
"""Open files that connections leave to everything else: NATS, etcd, disks."""
HEADER_BYTES_MAX: Final = 16 * 1024
"""Of one call, compressed and not. Clients of gRPC send 8 KiB at most by default."""
HANDSHAKE_S_MAX: Final = 5.0
"""TLS, and the first bytes of a connection, must be done within this time."""
HEADER_S_MAX: Final = 10.0
"""The header of a call must arrive within this time once it has begun."""
BODY_SLACK_BYTES: Final = 1 << 20
BODY_IDLE_S_MAX: Final = 60.0
"""A request that has begun ends when no byte of it comes for so long."""
REQUEST_S_MAX: Final = 120.0
"""A unary or server-streaming call whose request has not arrived in full ends after so long, or half as much
again."""
STREAM_WINDOW_BYTES: Final = 1 << 20
"""Bytes of one call that wait for its handler; then the client's HTTP/2 window is used up."""
CONNECTION_WINDOW_BYTES: Final = 16 << 20
"""The same of one connection: far more, so that one stream whose handler is slow does not stop the others."""
CONNECTION_BYTES_MAX: Final = 64 << 20
"""Bytes of one connection's requests whose calls run, unless the caller says otherwise."""
WRITE_S_MAX: Final = 60.0
"""A connection that takes no byte for so long is closed, with its calls."""
CLEANUP_S_MAX: Final = 5.0
"""How long `RpcServer.stop` waits for the ``finally`` of cancelled handlers."""
OLD_CERTIFICATE_S_MAX: Final = 3600.0
"""How long a call may go on over a connection whose certificates were replaced; then it ends."""
PROBES: Final = 5
"""Unanswered probes of the kernel after which a silent peer is gone."""
QUIET_POLL_S: Final = 0.02

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.rpc")


class RpcServer:
    """Serves `Methods` over gRPC on one port.

    Args:
        methods: what to answer.
        message_bytes_max: a larger request ends with RESOURCE_EXHAUSTED before a handler sees it.
        message_bytes_hint: where the bound comes from, told to a client whose request is larger.
        concurrent_calls_max: unary handlers running at one time; further calls are answered
            RESOURCE_EXHAUSTED at once.
        streams_max: the same bound for streams, counted apart because they are long-lived.
        calls_per_identity_max: of each of both bounds, how many one identity may run; None: half.
        connections_per_peer_max: connections from one address; None: half of all that there may be.
        connection_bytes_max: bytes of one connection's requests under way; a request that does not fit, by
            the length that it announces, is answered RESOURCE_EXHAUSTED.
        keepalive_s: the kernel probes a peer that is silent this long.
        keepalive_timeout_s: a peer that does not answer for so long then is gone: its calls are cancelled.
        request_s_max: how long a request may take to arrive.
        tls: the certificates, if the port speaks TLS.
        guard: admits the calls; None: all are.
        metrics: counts the calls, the connections and what is refused; None: nobody does.
    """

    def __init__(
        self,
        methods: Methods,
        *,
        message_bytes_max: int,
        message_bytes_hint: str = "",
        concurrent_calls_max: int,
        streams_max: int = STREAMS_MAX,
        calls_per_identity_max: int | None = None,
        connections_per_peer_max: int | None = None,
        connection_bytes_max: int = CONNECTION_BYTES_MAX,
        keepalive_s: float = 10.0,
        keepalive_timeout_s: float = 5.0,
        request_s_max: float = REQUEST_S_MAX,
        tls: TlsConfig | None = None,
        guard: Guard | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        names = Counter((*methods.unary, *methods.stream, *methods.bidi))
        if twice := sorted(name for name, kinds in names.items() if kinds > 1):
            raise ValueError(f"registered as several kinds: {', '.join(twice)}")
        self._methods = methods
        self._message_bytes_max = message_bytes_max
        self._calls_max = concurrent_calls_max + streams_max + CALLS_PENDING_MAX
        self._keepalive_s = keepalive_s
        self._keepalive_timeout_s = keepalive_timeout_s
        self._request_s_max = request_s_max
        refused = nobody_counts if metrics is None else _counted(metrics)
        held = HeldBytes(connection_bytes_max, refused)
        self._calls = Running(
            "concurrent_calls_max", concurrent_calls_max, held, refused, calls_per_identity_max
        )
        self._streams = Running("streams_max", streams_max, held, refused, calls_per_identity_max)
        limit = MessageLimit(message_bytes_max, message_bytes_hint)
        counts = CallCounts(metrics)
        self._dispatcher = Dispatcher(methods, limit, self._calls, self._streams, counts, guard)
        self._refused = refused
        self._connections_per_peer_max = connections_per_peer_max or int(_connections_max() * PEER_SHARE)
        self._tls = tls or TlsConfig()
        self._guard = guard
        self._connections = None
        if metrics is not None:
            self._connections = metrics.gauge(
                "rpc_connections", "Connections to the port, by what they do.", ("state",)
            )
        self._listener: socket.socket | None = None
        self._servers: HttpServers | None = None
        self._looking: list[asyncio.Task[None]] = []

    async def start(self, addr: str, *, reuse_port: bool = False) -> str:
        """Listen on ``addr``, ``host:port`` or ``[v6]:port``; port 0 takes a free one.

        Args:
            addr: where.
            reuse_port: let other processes that ask for the same listen there too.

        Returns:
            The bound ``host:port``.

        Raises:
            OSError: the address cannot be had; the text names it and the reason.
            ValueError: ``addr`` is no address.
            InvalidInput: the files of TLS cannot be used; the text says why.
        """
        if self._listener is not None:
            raise RuntimeError("the server was started before")
        if self._guard is not None:
            self._guard.check_table((*self._methods.unary, *self._methods.stream, *self._methods.bidi))
        listener = bind(addr, reuse_port=reuse_port)
        try:
            _watch_peers(listener, self._keepalive_s, self._keepalive_timeout_s)
            self._dispatcher.run_first_steps(asyncio.get_running_loop())
            servers = HttpServers(
                self._dispatcher, lambda: self._config(listener), self._tls.files, CLEANUP_S_MAX
            )
            await servers.start()
        except BaseException:
            listener.close()
            raise
        self._listener, self._servers = listener, servers
        port = listener.getsockname()[1]
        self._looking = [
            asyncio.create_task(self._end_late(), name="rpc late requests"),
            asyncio.create_task(self._close_excess(port), name="rpc connections"),
        ]
        # Which of the connections to a port are those of this process, the system's table does not tell.
        if self._connections is not None and not reuse_port:
            count = self._count_connections(port, self._connections)
            self._looking.append(asyncio.create_task(count, name="rpc connection counts"))
        return join_address(split_address(addr)[0], port)

    def _config(self, listener: socket.socket) -> Config:
        # The last line: `MessageReader` refuses by the length that a message announces.
        one_message = _policy("/*", 4 * self._message_bytes_max + BODY_SLACK_BYTES, BODY_IDLE_S_MAX)
        # The messages of a bidirectional stream have no end, and may pause.
        endless = (_policy(name, body_bytes_max=0, idle_s_max=0) for name in self._methods.bidi)
        return Config(
            bind=(f"fd://{listener.fileno()}",),
            grpc=True,
            lifespan="off",
            access_log=False,
            log_format="json",
            date_header=False,
            max_concurrent_streams=self._calls_max,
            limit_concurrency=self._calls_max,
            limit_connections=_connections_max(),
            limit_request_head_size=HEADER_BYTES_MAX,
            h2_max_header_list_size=HEADER_BYTES_MAX,
            h2_max_header_block_size=HEADER_BYTES_MAX,
            h2_initial_stream_window_size=STREAM_WINDOW_BYTES,
            h2_initial_connection_window_size=CONNECTION_WINDOW_BYTES,
            request_policies=(*endless, one_message),
            timeout_keep_alive=0,
            timeout_handshake=HANDSHAKE_S_MAX,
            timeout_request_header=HEADER_S_MAX,
            timeout_graceful_shutdown=OLD_CERTIFICATE_S_MAX if self._tls.enabled else CLEANUP_S_MAX,
            h2_timeout_write=WRITE_S_MAX,
            certfile=self._tls.cert_file,
            keyfile=self._tls.key_file,
            ca_certs=self._tls.client_ca_file,
            cert_reqs=self._tls.client_certs if self._tls.client_ca_file else "none",
        )

    async def _end_late(self) -> None:
        while True:
            await asyncio.sleep(self._request_s_max / REQUEST_WAITS_MAX)
            self._calls.end_late()
            self._streams.end_late()

    async def _close_excess(self, port: int) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            busy = {call.peer for call in (*self._calls, *self._streams) if call.peer is not None}
            closed = await asyncio.to_thread(close_excess, port, self._connections_per_peer_max, busy)
            for _ in range(closed):
                self._refused("connections_per_peer_max")

    async def _count_connections(self, port: int, gauge: Family[Gauge]) -> None:
        called: set[tuple[str, int]] = set()
        while True:
            fresh, self._dispatcher.callers = self._dispatcher.callers or (), set()
            called.update(peer for peer in fresh if peer is not None)
            counts, called = await asyncio.to_thread(count_connections, port, called)
            for state in STATES:
                gauge.labels(state).set(counts[state])
            await asyncio.sleep(COUNT_S)

    async def drain(self, still_served: Collection[str], *, quiet_s: float, timeout_s: float) -> None:
        """Refuse all calls but those of some methods with UNAVAILABLE, until the clients have moved on.

        A call that comes at the very moment of `stop` may end without a status before any handler sees it,
        and not every client takes that for a reason to try again. So the end comes when there are none.

        Args:
            still_served: full names of the unary methods that go on being served.
            quiet_s: returns when no unary call runs and none has come for so long,
            timeout_s: or after so long.
        """
        self._dispatcher.still_served = frozenset(still_served)
        clock = time.monotonic
        deadline = clock() + timeout_s
        # That nothing comes has no event.
        while clock() < deadline and (len(self._calls) or clock() < self._dispatcher.called_at + quiet_s):  # noqa: ASYNC110
            await asyncio.sleep(QUIET_POLL_S)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, end streams with UNAVAILABLE, and let unary calls finish for ``grace_s``.

        Returns when no handler runs any more. Idempotent.
        """
        if self._listener is None or self._servers is None or self._dispatcher.stopping:
            return
        self._dispatcher.stopping = True
        self._streams.cancel()
        if running := self._calls.ends:
            await asyncio.wait(running, timeout=grace_s)
        self._calls.cancel()
        if running := self._calls.ends | self._streams.ends:
            _done, left = await asyncio.wait(running, timeout=CLEANUP_S_MAX)
            if left:
                _log.error("rpc_calls_not_ended", calls=len(left))
        for task in self._looking:
            task.cancel()
        self._listener.close()
        await self._servers.stop()


def _connections_max() -> int:
    """Return how many connections may be open: fewer where the process may open few files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if files < 0 else max(min(CONNECTIONS_MAX, files - FILES_KEPT), 1)


def _counted(metrics: Metrics) -> Refused:
    family = metrics.counter("rpc_refusals", "Calls refused or ended at a bound of the port.", ("bound",))
    return lambda bound: family.labels(bound).inc()


def _policy(path: str, body_bytes_max: int, idle_s_max: float) -> RequestPolicy:
    """Return the library's bounds on the requests of a path; 0 is none."""
    return RequestPolicy(
        path=path,
        max_request_body_size=body_bytes_max,
        timeout_request_body_idle=idle_s_max,
        h2_timeout_response_stall=0,  # a consumer may pause for as long as it likes
    )


def _watch_peers(listener: socket.socket, keepalive_s: float, timeout_s: float) -> None:
    """Have the kernel probe silent peers. Connections inherit it from the socket they were accepted on."""
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(round(keepalive_s), 1)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(round(timeout_s / PROBES), 1)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
        # Bytes that were sent and are not confirmed count from when they were sent.
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round((keepalive_s + timeout_s) * 1000)),
    )
    for level, option, value in options:
        listener.setsockopt(level, option, value)
