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
from danube_common.nats.connection import Connection

FIRST_CONNECT_TIMEOUT_S = 10.0
# Several servers of one subject form one group: a request is answered by one of them.
SERVE_QUEUE = "danube"

log = structlog.get_logger(__name__)


class NatsBus:
    """A `Bus` over one NATS connection, which reconnects without limit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
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
    ) -> NatsBus:
        """Connect to one of the servers.

        Args:
            url: one address or several, e.g. ``nats://127.0.0.1:4222``.
            name: shown by the server for this client.
            reconnect_wait_s: wait before the first attempt to return; it doubles up to 2 s.
            connect_timeout_s: how long to try the first time.
            access: credentials and certificates; None: as the address says.

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
            )
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

    async def publish(self, subject: str, payload: bytes) -> None:
        """See the port."""
        await self._connection.send(subject, payload)

    def publish_at_once(self, subject: str, payload: bytes) -> bool:
        """See the port."""
        return self._connection.send_at_once(subject, payload)

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        """See the port."""
        return (await self._connection.call(subject, payload, timeout_s=timeout_s)).data

    async def subscribe(self, subject: str, handler: MessageHandler) -> _Interest:
        """See the port."""

        def deliver(message: Msg) -> None:
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

    async def _answer(self, message: Msg, handler: RequestHandler) -> None:
        try:
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
