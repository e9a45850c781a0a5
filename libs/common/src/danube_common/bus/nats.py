"""The bus over NATS core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from danube_common.bus.port import MessageHandler, RequestHandler
from danube_common.errors import DanubeError
from danube_common.nats.access import NatsAccess
from danube_common.nats.connection import TRACES_HEADER, Connection
from danube_common.tracing.context import ATTRIBUTE, parse_context
from danube_common.tracing.current import current_span, within
from danube_common.tracing.tracer import Span, Tracer

FIRST_CONNECT_TIMEOUT_S = 10.0
# Several servers of one subject form one group: a request is answered by one of them.
SERVE_QUEUE = "danube"

log = structlog.get_logger(__name__)


class NatsBus:
    """A `Bus` over one NATS connection, which reconnects without limit.

    A request of a task that works for a span has the span in a header, and a server with a ``tracer``
    continues it.
    """

    def __init__(self, connection: Connection, tracer: Tracer | None = None) -> None:
        self._connection = connection
        self._tracer = tracer
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(
        cls,
        url: str | Sequence[str],
        *,
        name: str,
        reconnect_wait_s: float = 0.1,
        connect_timeout_s: float = FIRST_CONNECT_TIMEOUT_S,
        access: NatsAccess | None = None,
        tracer: Tracer | None = None,
    ) -> NatsBus:
        """Connect to one of the servers.

        Args:
            url: one address or several, e.g. ``nats://127.0.0.1:4222``.
            name: shown by the server for this client.
            reconnect_wait_s: wait before the first attempt to return; it doubles up to 2 s.
            connect_timeout_s: how long to try the first time.
            access: credentials and certificates; None: as the address says.
            tracer: records spans of requests that are answered; None: there are no traces.

        Raises:
            BusUnavailable: no server answered in time.
        """
        return cls(
            await Connection.open(
                url,
                name=name,
                reconnect_wait_s=reconnect_wait_s,
                connect_timeout_s=connect_timeout_s,
                access=access,
            ),
            tracer,
        )

    @property
    def connection(self) -> Connection:
        """The nats-py client, shared with the log, the journal and the metadata store."""
        return self._connection

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._connection.is_connected

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """See the port."""
        self._connection.on_reconnect(callback)

    async def publish(self, subject: str, payload: bytes, traces: str = "") -> None:
        """See the port."""
        await self._connection.send(subject, payload, headers={TRACES_HEADER: traces} if traces else None)

    def publish_at_once(self, subject: str, payload: bytes, traces: str = "") -> bool:
        """See the port."""
        headers = {TRACES_HEADER: traces} if traces else None
        return self._connection.send_at_once(subject, payload, headers=headers)

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        """See the port."""
        span = current_span()
        headers = None if span is None else {ATTRIBUTE: str(span.context)}
        return (await self._connection.call(subject, payload, timeout_s=timeout_s, headers=headers)).data

    async def subscribe(
        self, subject: str, handler: MessageHandler, on_traces: Callable[[str], None] | None = None
    ) -> _Interest:
        """See the port."""

        def deliver(message: Msg) -> None:
            if message.headers and on_traces is not None and (traces := message.headers.get(TRACES_HEADER)):
                on_traces(traces)
            handler(message.data)

        return _Interest(self._connection, await self._connection.listen(subject, deliver))

    async def serve(self, subject: str, handler: RequestHandler, *, concurrent_max: int = 1024) -> _Interest:
        """See the port."""
        slots = asyncio.Semaphore(concurrent_max)

        async def accept(message: Msg) -> None:
            await slots.acquire()
            task = asyncio.create_task(self._answer(message, handler))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            task.add_done_callback(lambda _: slots.release())

        return _Interest(
            self._connection, await self._connection.listen_in_turn(subject, accept, queue=SERVE_QUEUE)
        )

    async def close(self) -> None:
        """See the port."""
        await self._connection.shut()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def _span_of(self, message: Msg) -> Span | None:
        if self._tracer is None or not message.headers:
            return None
        parent = parse_context(message.headers.get(ATTRIBUTE, ""))
        return None if parent is None else self._tracer.start(message.subject, parent)

    async def _answer(self, message: Msg, handler: RequestHandler) -> None:
        try:
            span = self._span_of(message)
            if span is None:
                answer = await handler(message.data)
            else:
                with within(span):
                    answer = await handler(message.data)
        except Exception:
            log.exception("bus_handler_failed", subject=message.subject)
            return
        if not message.reply:
            return
        try:
            await self._connection.send(message.reply, answer)
        except DanubeError as error:
            log.warning("bus_answer_not_sent", subject=message.subject, error=str(error))


class _Interest:
    def __init__(self, connection: Connection, subscription: NatsSubscription) -> None:
        self._connection = connection
        self._subscription = subscription

    async def close(self) -> None:
        await self._connection.forget(self._subscription)
